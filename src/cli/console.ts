/**
 * `inorder console`: serves the console without a worker, or for several workers. Exit code 0 when it was
 * stopped by a signal, 2 when it must not be served.
 */
import { once } from 'node:events';
import { loadConfig } from '../config/load.ts';
import { createConsole } from '../console/console.ts';
import { ConfigError } from '../errors.ts';
import { Gate } from '../observability/gate.ts';
import { serveHttp } from '../observability/http.ts';
import { askWorkerAt, urlOf } from '../observability/worker-status.ts';
import { processLog } from './access.ts';
import { brokerVariables, defineCommand, value, stateStoreVariables, httpVariables, userVariables } from './command.ts';

export const command = defineCommand({
  name: 'console',
  summary: 'Serves the console: shards, gaps, dead letters, and how to replay or discard them.',
  description: [
    'A page for browsers at HTTP_HOST and HTTP_PORT, until SIGTERM or SIGINT. Every worker serves it as well, at `/`; this',
    'command can show several workers, and works without any.',
    'On loopback everybody may read. Changes, headers and bodies need ADMIN_TOKEN or another operator; beyond loopback',
    'reading needs a user as well: READ_TOKEN, TOKENS_FILE, or a proxy that says who it is.',
  ].join('\n'),
  positionals: [],
  options: {
    workers: value('URLS', 'Workers to ask, separated by commas: http://10.0.0.1:9464,http://10.0.0.2:9464. Default: none.'),
  },
  variables: [
    ...brokerVariables,
    'MANAGEMENT_URL',
    ...stateStoreVariables,
    'SHARDS',
    'ENTITY_TYPE',
    ...httpVariables,
    ...userVariables,
    'SERVICE_NAME',
    'LOG_LEVEL',
  ],
  async run({ options }, io) {
    const config = loadConfig(io.env);
    const urls = options.workers === null ? [] : workerUrls(options.workers);
    const log = processLog(config, io);
    const ask = async (url: string) => ({ name: new URL(url).host, report: await askWorkerAt(url, config, io.time) });
    const gate = new Gate(config.http, io.time);
    const page = createConsole({ config, gate, log, workers: () => Promise.all(urls.map(ask)) });
    const stopSignal = io.takeSignals();
    try {
      const server = await serveHttp(config.http, page.routes, gate.viewers);
      const changes = gate.hasOperatorToken || (config.http.proxy?.operators ?? []).length > 0;
      log.info({ http: urlOf(server), stream: config.broker.stream, changes }, 'serving the console');
      if (!stopSignal.aborted) await once(stopSignal, 'abort');
      await server.close();
    } finally {
      await page.close();
    }
    log.info({}, 'stopped');
    return 0;
  },
});

function workerUrls(text: string): readonly string[] {
  const urls = text.split(',').map((url) => url.trim());
  const wrong = urls.find((url) => !/^https?:\/\//.test(url) || !URL.canParse(url));
  if (wrong !== undefined)
    throw new ConfigError([`--workers names ${JSON.stringify(wrong)}: it must be a list of http:// URLs, separated by commas`]);
  return urls;
}
