/**
 * The closed list of reasons for which a message is dead-lettered. One table makes the type, the metric
 * labels and the README's table; a reason that is not here cannot be written.
 */

export interface ReasonText {
  /** What happened, in one sentence. */
  readonly meaning: string;
  /** What to do about it, in one sentence. */
  readonly remedy: string;
}

const table = {
  malformed: {
    meaning: 'The body is not one well-formed JSON object in UTF-8, or the envelope lacks a required field.',
    remedy: 'Mend the producer; publish the corrected event.',
  },
  too_large: {
    meaning: 'The body or the header block is over its limit.',
    remedy: 'Send a reference instead of the content, or raise the limit.',
  },
  unsupported: {
    meaning: 'The content encoding or the schema version is not one that Inorder reads.',
    remedy: 'Publish as plain JSON or CloudEvents 1.0.',
  },
  invalid_entity: {
    meaning: 'The entity id is missing, empty, not a string, too long, or has control characters.',
    remedy: 'Give every event the id of its entity as a string.',
  },
  invalid_sequence: {
    meaning: 'The sequence is missing, not a whole number from 1 up, or more than 1,000,000 ahead of the version.',
    remedy: 'Number the events of each entity 1, 2, 3… where they are made.',
  },
  misrouted: {
    meaning: 'The routing key differs from the entity id, so another shard owns the entity.',
    remedy: 'Publish with the entity id as the routing key.',
  },
  sequence_conflict: {
    meaning: 'Another event with other content was already applied under this sequence.',
    remedy: 'Two producers number the same entity: let one of them do it.',
  },
  message_id_conflict: {
    meaning: 'Another event with other content was already applied under this id.',
    remedy: 'Make ids unique; publish the event again with a new id.',
  },
  gap_timeout: {
    meaning: 'A predecessor did not arrive within GAP_TIMEOUT_MS.',
    remedy: 'Find the missing event, publish it, then replay the entity.',
  },
  buffer_overflow: {
    meaning: 'Too many events were held behind a gap, so the gap ended early.',
    remedy: 'Find the missing event, publish it, then replay the entity; look for a producer that lost events.',
  },
  entity_parked: {
    meaning: 'An earlier event of the entity was dead-lettered; this one follows it.',
    remedy: 'Mend the earlier one, then replay the entity.',
  },
  out_of_order: {
    meaning: 'It came before its predecessor and ORDERING_VIOLATION_STRATEGY is `fail`.',
    remedy: 'Replay the entity once the predecessor is there, or buffer.',
  },
  late: {
    meaning: 'It came after its gap had been skipped.',
    remedy: 'Decide by hand whether its effect is still wanted.',
  },
  not_created: {
    meaning: 'The first event of the entity is not one that creates it.',
    remedy: 'Publish the creating event under sequence 1, or set FIRST_SEQUENCE=any to adopt a running stream.',
  },
  refused: {
    meaning: "The aggregate's rules do not allow this event in the entity's state.",
    remedy: 'Correct the event or the state; the detail names the rule.',
  },
  invalid_data: {
    meaning: "The data does not satisfy the aggregate's schema.",
    remedy: 'Correct the event; the detail names the field.',
  },
  no_processor: {
    meaning: 'No processor is configured for this entity type.',
    remedy: 'Add one to PROCESSOR, or correct entity_type or ENTITY_TYPE.',
  },
  handler_failed: {
    meaning: 'The processor failed after every attempt, or said that trying again is useless.',
    remedy: 'Read the detail, mend the processor or what it calls, then replay the entity.',
  },
  state_too_large: {
    meaning: 'The state of the entity would exceed its limit.',
    remedy: 'Keep less in the state.',
  },
} as const satisfies Record<string, ReasonText>;

export type RejectionReason = keyof typeof table;

export const rejectionReasons: Readonly<Record<RejectionReason, ReasonText>> = table;
