/**
 * The built-in `history`: for any entity and any event, how many there were, of which types in which order, and
 * the last data, byte for byte as the producer wrote it. With it a stream can be watched, and compared with
 * its source, before anything is programmed. Of the types the last 1,000 are kept, so that a state stays small however
 * long its entity lives: each commit writes it again.
 */
import { scanMembers } from '../events/json-scanner.ts';
import { defineAggregate } from './define.ts';
import type { Aggregate } from './definition.ts';

/** Types that are kept of an entity. */
export const maxHistoryTypes = 1_000;

export interface HistoryState {
  /** All events that were applied, also those whose types are not kept any more. */
  readonly count: number;
  /** Types of the last 1,000 events in the order in which they were applied, each as often as it was. */
  readonly types: readonly string[];
  /** `data` of the last event as JSON text: large integers and `1.0` survive. Stored as JSON, not as a string of it. */
  readonly dataJson: string;
}

export function historyAggregate(): Aggregate<HistoryState> {
  return defineAggregate({
    type: '*',
    initialState: (): HistoryState => ({ count: 0, types: [], dataJson: 'null' }),
    evolve: {
      '*': ({ count, types }, event) => {
        return { count: count + 1, types: [...types.slice(1 - maxHistoryTypes), event.type], dataJson: event.dataJson };
      },
    },
    serialize: ({ count, types, dataJson }) => `{"count":${count},"types":${JSON.stringify(types)},"data":${dataJson}}`,
    deserialize(text) {
      const { count, types } = JSON.parse(text) as Pick<HistoryState, 'count' | 'types'>;
      return { count, types, dataJson: dataSource(text) };
    },
  });
}

function dataSource(text: string): string {
  const scan = scanMembers(text, Number.POSITIVE_INFINITY);
  const data = scan.ok ? scan.found.find(({ key }) => key === 'data') : undefined;
  if (data === undefined) throw new TypeError('the stored state is not one of a history');
  return data.source;
}
