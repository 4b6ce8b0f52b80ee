/** The log of a command that runs until it is stopped: SIGUSR2 makes it tell everything, and again only what LOG_LEVEL says. */
import type { Config } from '../config/config.ts';
import { createLog, type Log } from '../observability/log.ts';
import type { CommandIo } from './command.ts';

export function processLog({ logLevel, serviceName }: Pick<Config, 'logLevel' | 'serviceName'>, io: CommandIo): Log {
  const log = createLog({ level: logLevel, service: serviceName, writeLine: io.logLine, time: io.time });
  io.onLevelSignal(() => {
    const level = log.level === 'debug' ? logLevel : 'debug';
    // Told at whichever of the two levels shows it.
    log.level = 'debug';
    log.info({ log_level: level }, 'the log level is changed');
    log.level = level;
  });
  return log;
}
