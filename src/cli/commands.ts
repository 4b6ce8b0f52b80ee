/** Every command of `inorder`, in the order of `--help`. A new one is an import and a row. */
import type { Command } from './command.ts';
import { command as worker } from './worker.ts';
import { list as deadLettersList, show as deadLettersShow } from './dead-letters.ts';
import { command as entityList } from './entity-list.ts';
import { command as entityShow } from './entity-show.ts';

export const commands: readonly Command[] = [worker, entityShow, entityList, deadLettersList, deadLettersShow];
