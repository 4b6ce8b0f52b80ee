/**
 * A program whose event loop is watched as a worker's is, with a note on record for shard 0: it stands still until the file PAUSED_UNTIL
 * is there, and then goes on until it is killed.
 */
import { existsSync } from 'node:fs';
import { loadConfig } from '../../src/config/load.ts';
import { createLog } from '../../src/observability/log.ts';
import { openStore } from '../../src/stores/open-store.ts';
import { systemTime } from '../../src/time.ts';
import { BlockWatch } from '../../src/worker/block-watch.ts';

const { PAUSED_UNTIL = '', NOTE = '', ...env } = process.env;
const config = loadConfig(env);
const log = createLog({ level: 'info', service: 'paused' });
const store = openStore(config, { role: 'test', log, time: systemTime });
const watch = new BlockWatch({ config, log, time: systemTime });
watch.start();
await store.nextEpoch(0);
await watch.sees(store).noteSession(0, 1, NOTE);
while (!existsSync(PAUSED_UNTIL));
setInterval(() => undefined, 60_000);
