/**
 * Whether the shards of a stream may go on: what is on record in the store and at the broker, and what the two say
 * when they are compared. The same for a worker that starts and for whoever looks at the stream.
 */
import { isoNow, type Time } from '../time.ts';
import type { Halt, StreamState, Store } from './store.ts';

/** What the broker keeps; `rabbitmq/stream-record.ts` says more of each. */
export interface KnownStore {
  readonly isOlder: boolean;
  readonly identity: string | null;
  readonly epoch: number;
  readonly halts: readonly Halt[];
}

export interface Outlook {
  readonly state: StreamState;
  /** Empty: all of them may. */
  readonly halts: readonly Halt[];
}

type Reading = Pick<Store, 'streamState' | 'listEntities'>;

/** `known` is null where the broker keeps nothing. @throws UnavailableError */
export async function lookForHalts(store: Reading, known: KnownStore | null, time: Time): Promise<Outlook> {
  const state = await store.streamState();
  const recorded = [...state.halts, ...(known?.halts ?? []).filter(({ shard }) => !state.halts.some((halt) => halt.shard === shard))];
  // What was noticed first says more than what follows from it.
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

/** For whoever operates the stream. */
export function haltText({ shard, detail }: Halt): string {
  return `${shard === null ? 'every shard' : `shard ${shard}`} is halted, for the store went backwards: ${detail}`;
}
