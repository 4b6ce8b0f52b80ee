#!/usr/bin/env node
/**
 * The command `inorder`: the process's words, streams and signals around the table of commands. Everything is
 * written when a command returns; what it could not close in time does not keep the process.
 */
import { readFileSync } from 'node:fs';
import { commands } from './cli/commands.ts';
import { processIo } from './cli/process-io.ts';
import { runCli } from './cli/run.ts';

/** For connections that are being closed. */
const lingerMs = 2_000;

process.exitCode = await runCli({ commands, version: readVersion() }, process.argv.slice(2), processIo());

setTimeout(() => process.exit(), lingerMs).unref();

/** From the package this file is part of, in the checkout as well as in the build. */
function readVersion(): string {
  for (const candidate of ['../package.json', '../../package.json']) {
    try {
      const manifest = JSON.parse(readFileSync(new URL(candidate, import.meta.url), 'utf8')) as {
        name?: string;
        version?: string;
      };
      if (manifest.name === 'inorder' && manifest.version !== undefined) return manifest.version;
    } catch {
      // Not there: it is the other one.
    }
  }
  return 'unknown';
}
