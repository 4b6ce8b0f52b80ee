/**
 * The built-in `history`: for any entity and any event it keeps the number of events, their types in order, and
 * the last data, byte for byte as the producer wrote them. It shows a stream, and compares it with
 * its source, before anything is programmed. Only the last 1,000 types are kept, so that the state stays small, because
 * each commit writes it.
 */
import { scanMembers } from '../events/json-scanner.ts';
import { defineAggregate } from './define.ts';
import type { Aggregate } from './definition.ts';

/** The most types to keep of an entity. */
export const maxHistoryTypes = 1_000;

export interface HistoryState {
  /** The number of applied events, including those whose types are no longer kept. */
  readonly count: number;
  /** Types of the last 1,000 events in the order of application, with repetitions. */
  readonly types: readonly string[];
  /** `data` of the last event as JSON text, with large integers and `1.0` intact. Stored as JSON, not as a string. */
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
