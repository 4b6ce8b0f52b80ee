/** Every command of `inorder`, in the order of `--help`. A new one is an import and a row. */
import { command as audit } from './audit.ts';
import type { Command } from './command.ts';
import { command as console } from './console.ts';
import { exportLetters as deadLettersExport, list as deadLettersList, show as deadLettersShow } from './dead-letters.ts';
import { command as deadLettersDiscard } from './dead-letters-discard.ts';
import { command as deadLettersReplay } from './dead-letters-replay.ts';
import { command as demo } from './demo.ts';
import { command as doctor } from './doctor.ts';
import { command as entityImport } from './entity-import.ts';
import { command as entityResync } from './entity-resync.ts';
import { list as entityList, show as entityShow } from './entity.ts';
import { command as eventsAppend } from './events-append.ts';
import { command as eventsList } from './events-list.ts';
import { command as permissions } from './permissions.ts';
import { command as publish } from './publish.ts';
import { rebuild, verify as eventsVerify } from './verify-rebuild.ts';
import { command as recover } from './recover.ts';
import { command as relay } from './relay.ts';
import { command as shardsResume } from './shards-resume.ts';
import { command as status } from './status.ts';
import { apply as topologyApply, check as topologyCheck, show as topologyShow } from './topology.ts';
import { command as worker } from './worker.ts';

export const commands: readonly Command[] = [
  worker,
  publish,
  relay,
  topologyApply,
  topologyCheck,
  topologyShow,
  permissions,
  shardsResume,
  entityShow,
  entityList,
  entityResync,
  entityImport,
  deadLettersList,
  deadLettersShow,
  deadLettersReplay,
  deadLettersDiscard,
  deadLettersExport,
  eventsList,
  eventsAppend,
  eventsVerify,
  rebuild,
  recover,
  audit,
  console,
  status,
  doctor,
  demo,
];
