/**
 * From one arrival to an event, or to the reason why it is none (DESIGN, section 3). Never throws, whatever
 * the bytes. Nothing else in Inorder looks into a message; in particular nobody reads `x-death` or a replay
 * header, which anybody can forge.
 *
 *   size ─▶ format ─▶ claims (envelope, CloudEvents) ─▶ admission ─▶ event
 *
 * Left to the sequencer: whether a missing sequence is allowed, and how far a sequence may run ahead.
 */
import { admit, type DecodeOptions, refusal } from './admission.ts';
import type { Decoded, RawMessage } from './event.ts';
import { formatOf, sizeProblem } from './message-format.ts';

export type { DecodeOptions } from './admission.ts';

const nothingRead = { id: null, entityType: null, entityId: null, sequence: null, type: null };

export function decodeMessage(message: RawMessage, options: DecodeOptions): Decoded {
  const tooLarge = sizeProblem(message, options.limits);
  if (tooLarge !== null) return refusal(tooLarge, message, nothingRead);
  const format = formatOf(message);
  if (format.read === null) return refusal(format.problem, message, nothingRead);
  return admit(format.read(message, options.limits), message, options);
}
