/**
 * Sends a batch to a cluster: one pipeline for each node that has a part in it, all at the same time.
 *
 * The client sends a pipeline to one node only and follows a redirection only when every command of it was
 * redirected. So the commands are grouped by the node that has their slot, and whatever a node sends elsewhere
 * is sent once more by itself, which the client does follow.
 */
import { Command as ClientCommand, type Cluster } from 'ioredis';
import type { Command, Reply } from './connection.ts';

const REDIRECTED = /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN)\b/;

export async function sendToNodes(cluster: Cluster, commands: readonly Command[]): Promise<readonly Reply[]> {
  const replies = new Array<Reply>(commands.length);
  const batches = [...groupByNode(cluster, commands).values()];
  await Promise.all(batches.map((indexes) => sendBatch(cluster, commands, indexes, replies)));
  const redirected = [...replies.keys()].filter((index) => REDIRECTED.test(replies[index]?.[0]?.message ?? ''));
  await Promise.all(redirected.map((index) => sendAlone(cluster, commands, index, replies)));
  return replies;
}

function groupByNode(cluster: Cluster, commands: readonly Command[]): Map<string, number[]> {
  const groups = new Map<string, number[]>();
  for (const [index, [name, ...args]] of commands.entries()) {
    const slot = new ClientCommand(name, args).getSlot();
    const node = cluster.slots[slot]?.join() ?? '';
    const group = groups.get(node);
    if (group === undefined) groups.set(node, [index]);
    else group.push(index);
  }
  return groups;
}

async function sendBatch(cluster: Cluster, commands: readonly Command[], indexes: readonly number[], replies: Reply[]): Promise<void> {
  const pipeline = cluster.pipeline();
  for (const index of indexes) {
    const [name, ...args] = commands[index] as Command;
    pipeline.call(name, args);
  }
  const answers = await pipeline.exec().catch((error: Error) => indexes.map((): Reply => [error]));
  for (const [at, index] of indexes.entries()) replies[index] = answers?.[at] ?? [new Error('the node gave no answer')];
}

async function sendAlone(cluster: Cluster, commands: readonly Command[], index: number, replies: Reply[]): Promise<void> {
  const [name, ...args] = commands[index] as Command;
  replies[index] = await cluster.call(name, args).then(
    (value): Reply => [null, value],
    (error: Error): Reply => [error],
  );
}
