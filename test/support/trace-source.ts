/**
 * A GAP_REPAIR module for tests: has every event of every trace, but those that SOURCE_LACKS names (`a/3,b/2`), and is away
 * as long as the file at SOURCE_AWAY exists. What it was asked for it appends to the file at SOURCE_LOG, if there is one.
 */
import { appendFileSync, existsSync } from 'node:fs';
import type { GapSource } from '../../src/index.ts';

const { SOURCE_LACKS = '', SOURCE_AWAY, SOURCE_LOG } = process.env;
const lacks = new Set(SOURCE_LACKS.split(','));

const source: GapSource = async ({ entity: { entityId }, from, to }) => {
  if (SOURCE_LOG !== undefined) appendFileSync(SOURCE_LOG, `${entityId} ${from}-${to}\n`);
  if (SOURCE_AWAY !== undefined && existsSync(SOURCE_AWAY)) throw new Error('the source is away');
  return Array.from({ length: to - from + 1 }, (_, index) => from + index)
    .filter((sequence) => !lacks.has(`${entityId}/${sequence}`))
    .map((sequence) => ({ id: `${entityId}/${sequence}`, sequence, type: `e${sequence}`, data: { n: sequence } }));
};

export default source;
