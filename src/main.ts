#!/usr/bin/env node
/**
 * The command `inorder`: runs the table of commands with the process's arguments, streams and signals. All output is
 * written when a command returns; connections that do not close in time do not keep the process running.
 */
import { commands, runCli } from './cli/run.ts';
import { processIo } from './cli/process-io.ts';
import { packageVersion } from './config/config.ts';
import { systemTime } from './time.ts';

/** For connections that are being closed. */
const lingerMs = 2_000;

process.exitCode = await runCli({ commands, version: packageVersion() }, process.argv.slice(2), processIo(systemTime));

systemTime.after(lingerMs, () => process.exit(), { unref: true });
