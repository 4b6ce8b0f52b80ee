/**
 * `inorder worker`, and `inorder console`, which serves by itself the page that a worker serves as well. Both run until the first
 * signal. Exit code 0 when a signal stopped it, 1 when something else ended it, 2 when it must not start.
 */
import { once } from 'node:events';
import { hostname } from 'node:os';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { variableNames } from '../config/variables.ts';
import { type Console, consoleRefusal, createConsole } from '../console/console.ts';
import { ConfigError } from '../errors.ts';
import { Gate } from '../observability/gate.ts';
import { everybody, type HttpServer, serveHttp, workerRoutes } from '../observability/http.ts';
import type { Log } from '../observability/log.ts';
import { createMetrics } from '../observability/metrics.ts';
import { registeredTracer } from '../observability/tracing.ts';
import { askWorkerAt, urlOf } from '../observability/worker-status.ts';
import { loadProcessors, openGapSource } from '../worker/operator-modules.ts';
import { createWorker, type Worker } from '../worker/worker.ts';
import { processLog } from './access.ts';
import { brokerVariables, type CommandIo, defineCommand, httpVariables, stateStoreVariables, userVariables, value } from './command.ts';

export const worker = defineCommand({
  name: 'worker',
  summary: 'Consumes events, restores their order, and applies them. Configured by the environment.',
  description: [
    'Consumes the shards of WORKER_SHARDS until SIGTERM or SIGINT. Then it finishes what is in flight, at most',
    'for SHUTDOWN_TIMEOUT_MS, and gives the rest back in order. A second signal ends it at once.',
    'Start a second worker with the same configuration as a standby.',
  ].join('\n'),
  positionals: [],
  options: {},
  variables: variableNames,
  async run(_args, io) {
    const config = loadConfig(io.env);
    const processors = await loadProcessors(config.processing);
    const log = processLog(config, io);
    const gaps = await openGapSource(config, log, io.time);
    for (const warning of config.warnings) log.warn({}, warning);
    const stopSignal = io.takeSignals();
    const metrics = createMetrics(config.serviceName, { exemplars: registeredTracer() !== null });
    const isolation = config.processing.isolation === 'thread' ? config.processing : null;
    const worker = createWorker({ config, processors, isolation, gapSource: gaps?.source, log, metrics, time: io.time });
    const crashed = 'an error that nobody caught: the process ends, a standby takes over';
    io.onCrash((error) => log.error({ error, in_work: worker.inWork() }, crashed));
    const gate = new Gate(config.http, io.time, log);
    const page = mountConsole(config, worker, gate, log, io);
    const routes = [...workerRoutes(metrics, worker, gate), ...(page?.routes ?? [])];
    const stop = () => {
      log.info({}, 'stopping: finishing what is in flight');
      void worker.stop();
    };
    // The signal was aborted before: its event is not repeated.
    if (stopSignal.aborted) stop();
    else stopSignal.addEventListener('abort', stop, { once: true });
    let server: HttpServer | null = null;
    try {
      server = await serveHttp(config.http, routes, page === null ? everybody : gate.viewers);
      log.info({ http: `http://${server.host}:${server.port}`, stream: config.broker.stream }, 'starting');
      await worker.start();
      const reasons = worker.notReady();
      if (reasons.length === 0) log.info({ shards: config.broker.workerShards.length }, 'ready');
      else log.warn({ reasons }, 'started, and not ready');
      const cause = await worker.done;
      if (cause !== null) throw cause;
    } catch (error) {
      // A start that the signal aborted counts as a normal stop.
      if (!stopSignal.aborted) throw error;
    } finally {
      await worker.stop();
      await server?.close();
      await page?.close();
      await gaps?.close();
    }
    log.info({}, 'stopped');
    return 0;
  },
});

/** Null if it must not be served: a worker that is reachable without a token runs without the console. */
function mountConsole(config: Config, worker: Worker, gate: Gate, log: Log, { time }: CommandIo): Console | null {
  const refusal = consoleRefusal(config);
  if (refusal !== null) {
    log.info({ cause: refusal }, 'the console is off');
    return null;
  }
  const name = `${hostname()} (this worker)`;
  return createConsole({ config, gate, log, time, workers: async () => [{ name, report: worker.status() }] });
}

export const console = defineCommand({
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
    const gate = new Gate(config.http, io.time, log);
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
