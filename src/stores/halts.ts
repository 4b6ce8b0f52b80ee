/**
 * Whether the shards of a stream are halted: the halts recorded in the store and at the broker, and the one that follows from
 * comparing the two. A starting worker and the commands use the same check.
 */
import { isoNow, type Time } from '../time.ts';
import type { Halt, StreamState, Store } from './store.ts';

/** The broker's record of the store; `rabbitmq/stream-record.ts` explains each field. */
export interface KnownStore {
  readonly isOlder: boolean;
  readonly identity: string | null;
  readonly epoch: number;
  readonly halts: readonly Halt[];
}

export interface Outlook {
  readonly state: StreamState;
  /** Empty: no shard is halted. */
  readonly halts: readonly Halt[];
}

type Reading = Pick<Store, 'streamState' | 'listEntities'>;

/** `known` is null if the broker keeps no record. @throws UnavailableError */
export async function lookForHalts(store: Reading, known: KnownStore | null, time: Time): Promise<Outlook> {
  const state = await store.streamState();
  const recorded = [...state.halts, ...(known?.halts ?? []).filter(({ shard }) => !state.halts.some((halt) => halt.shard === shard))];
  // The recorded cause says more than its consequence.
  if (known === null || recorded.some(({ shard }) => shard === null)) return { state, halts: recorded };
  const detail = await whyNotThisStore(store, state, known);
  const mismatch = detail === null ? [] : [{ shard: null, detail, at: isoNow(time) }];
  return { state, halts: [...recorded, ...mismatch] };
}

async function whyNotThisStore(
  store: Pick<Store, 'listEntities'>,
  { identity, epoch }: StreamState,
  known: KnownStore,
): Promise<string | null> {
  const isUnused = identity === null && epoch === 0;
  if (known.identity === null) {
    if (!known.isOlder || !isUnused || !(await isEmpty(store))) return null;
    return 'the store knows nothing of this stream, which was there before';
  }
  const had = `the stream has had a store that gave out epoch ${known.epoch}`;
  if (isUnused) return `${had}, and this one knows nothing of it`;
  if (identity !== known.identity) return `${had}, and this is another one`;
  return epoch < known.epoch ? `${had}, and this one stands at ${epoch}: it is an older copy` : null;
}

/** Entities may have been imported before any worker began. */
async function isEmpty(store: Pick<Store, 'listEntities'>): Promise<boolean> {
  for await (const _entity of store.listEntities({})) return false;
  return true;
}

/** The halt as a message for operators. */
export function haltText({ shard, detail }: Halt): string {
  return `${shard === null ? 'every shard' : `shard ${shard}`} is halted, for the store went backwards: ${detail}`;
}
