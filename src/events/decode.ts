/**
 * Decodes a message into an event, or into the reason why it is none (src/README.md, section 3). Never throws, whatever
 * the bytes. No other code in Inorder interprets messages; in particular nothing trusts `x-death` or a replay
 * header, which anybody can forge.
 *
 *   size ─▶ format ─▶ raw fields (envelope, CloudEvents) ─▶ validation ─▶ event
 *     └────────┴──────────┴─▶ what can still be read ─▶ refusal
 *
 * Left to the sequencer: whether a missing sequence is allowed, and how far ahead a sequence may be.
 */
import { validate, type DecodeOptions } from './validation.ts';
import { type RawFields, unreadable } from './raw-fields.ts';
import { unreadVersionHeader } from './cloudevents-headers.ts';
import { memberNames } from './envelope.ts';
import type { Decoded, EventLimits, RawMessage } from './event.ts';
import { glimpsed } from './glimpse.ts';
import { quoted } from './json-body.ts';
import { formatOf, sizeProblem } from './message-format.ts';

export type { DecodeOptions } from './validation.ts';

export function decodeMessage(message: RawMessage, options: DecodeOptions): Decoded {
  const { limits } = options;
  const raw = rawFieldsOf(message, limits);
  const decoded = validate(raw.isComplete ? raw : glimpsed(raw, message, limits), message, options);
  const unread = decoded.ok ? null : unreadVersionHeader(message.headers);
  if (decoded.ok || unread === null) return decoded;
  const detail = `${decoded.refusal.detail}; the prefix of ${quoted(unread)} is not read: send attributes as cloudEvents:`;
  return { ok: false, refusal: { ...decoded.refusal, detail } };
}

function rawFieldsOf(message: RawMessage, limits: EventLimits): RawFields {
  const tooLarge = sizeProblem(message, limits);
  if (tooLarge !== null) return unreadable(memberNames, tooLarge);
  const format = formatOf(message);
  return format.read === null ? unreadable(memberNames, format.problem) : format.read(message, limits);
}
