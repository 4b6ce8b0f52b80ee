/**
 * `inorder worker`: runs a worker with its log, its metrics and its HTTP server, and stops it on the
 * first signal. Exit code 0 when a signal stopped it, 1 when something else ended it, 2 when it must
 * not start.
 */
import { hostname } from 'node:os';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { variableNames } from '../config/variables.ts';
import { type Console, consoleRefusal, createConsole } from '../console/console.ts';
import { Gate } from '../observability/gate.ts';
import { everybody, type HttpServer, serveHttp, workerRoutes } from '../observability/http.ts';
import type { Log } from '../observability/log.ts';
import { createMetrics } from '../observability/metrics.ts';
import { registeredTracer } from '../observability/tracing.ts';
import { createWorker, type Worker } from '../worker/worker.ts';
import { loadProcessors, openGapSource } from '../worker/operator-modules.ts';
import { processLog } from './access.ts';
import { type CommandIo, defineCommand } from './command.ts';

export const command = defineCommand({
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
    io.onCrash((error) => log.error({ error }, 'a bug: the process ends, a standby takes over'));
    const stopSignal = io.takeSignals();
    const metrics = createMetrics(config.serviceName, { exemplars: registeredTracer() !== null });
    const worker = createWorker({ config, processors, gapSource: gaps?.source, log, metrics, time: io.time });
    const gate = new Gate(config.http, io.time);
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
