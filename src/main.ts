#!/usr/bin/env node
/**
 * The command `inorder`: the process's words, streams and signals around the table of commands. The exit code
 * is set rather than forced, so that what has been written also arrives.
 */
import { readFileSync } from 'node:fs';
import { commands } from './cli/commands.ts';
import { processIo } from './cli/process-io.ts';
import { runCli } from './cli/run.ts';

process.exitCode = await runCli({ commands, version: readVersion() }, process.argv.slice(2), processIo());

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
