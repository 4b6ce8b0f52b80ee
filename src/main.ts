#!/usr/bin/env node
/**
 * The command `inorder`: the process's words, streams and signals around the table of commands. Everything is
 * written when a command returns; what it could not close in time does not keep the process.
 */
import { commands } from './cli/commands.ts';
import { processIo } from './cli/process-io.ts';
import { runCli } from './cli/run.ts';
import { packageVersion } from './config/version.ts';
import { systemTime } from './time.ts';

/** For connections that are being closed. */
const lingerMs = 2_000;

process.exitCode = await runCli({ commands, version: packageVersion() }, process.argv.slice(2), processIo(systemTime));

systemTime.after(lingerMs, () => process.exit(), { unref: true });
