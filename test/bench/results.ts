/** The benchmark's figures as text: medians over the rounds, ratios of the medians, and whether the goals are met. */
import type { ContenderName } from './contenders.ts';
import type { Measurement } from './task.ts';

export type Results = Readonly<Record<ContenderName, readonly Measurement[]>>;

export interface Summary {
  readonly rawPerSecond: number;
  readonly inorderPerSecond: number;
  readonly recipePerSecond: number;
  readonly recipePerShardPerSecond: number;
  /** Inorder as a multiple of the recipe as it is written. */
  readonly timesRecipe: number;
  /** … and of the recipe with one message under way per shard. */
  readonly timesRecipePerShard: number;
  /** Inorder as a part of the raw consumer. */
  readonly shareOfRaw: number;
}

export const goals = { timesRecipe: 8, shareOfRaw: 0.35 };

export function summarize(results: Results): Summary {
  const rawPerSecond = median(results.raw.map(perSecond));
  const inorderPerSecond = median(results.inorder.map(perSecond));
  const recipePerSecond = median(results.recipe.map(perSecond));
  const recipePerShardPerSecond = median(results['recipe-per-shard'].map(perSecond));
  return {
    rawPerSecond,
    inorderPerSecond,
    recipePerSecond,
    recipePerShardPerSecond,
    timesRecipe: inorderPerSecond / recipePerSecond,
    timesRecipePerShard: inorderPerSecond / recipePerShardPerSecond,
    shareOfRaw: inorderPerSecond / rawPerSecond,
  };
}

/** Contenders that did not run, and goals that need them, are left out. */
export function render(results: Results): string {
  const summary = summarize(results);
  const line = (label: string, rounds: readonly Measurement[], rate: number) => {
    const all = rounds.map((round) => whole(perSecond(round))).join('  ');
    return rounds.length === 0 ? [] : [`${label.padEnd(34)}${whole(rate).padStart(9)}   ${all}`];
  };
  const goal = (label: string, value: number, least: number) =>
    Number.isNaN(value)
      ? []
      : [`${label.padEnd(34)}${value.toFixed(2).padStart(9)}   goal at least ${least}: ${value >= least ? 'met' : 'missed'}`];
  const perShard = summary.timesRecipePerShard;
  return [
    `${'events/s'.padEnd(34)}${'median'.padStart(9)}   rounds`,
    ...line('raw consumer, acknowledges only', results.raw, summary.rawPerSecond),
    ...line('Inorder', results.inorder, summary.inorderPerSecond),
    ...line('the recipe, message by message', results.recipe, summary.recipePerSecond),
    ...line('the recipe, a message per shard', results['recipe-per-shard'], summary.recipePerShardPerSecond),
    '',
    ...goal('Inorder / recipe', summary.timesRecipe, goals.timesRecipe),
    ...(Number.isNaN(perShard) ? [] : [`${'Inorder / recipe, per shard'.padEnd(34)}${perShard.toFixed(2).padStart(9)}`]),
    ...goal('Inorder / raw consumer', summary.shareOfRaw, goals.shareOfRaw),
    '',
  ].join('\n');
}

const perSecond = ({ events, durationMs }: Measurement) => (events * 1_000) / durationMs;
const whole = (rate: number) => Math.round(rate).toLocaleString('en-US');

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
