/**
 * The closed list of reasons for which a message is dead-lettered. One table makes the type, the metric
 * labels and the table in src/dead-letters/README.md, and says what a replay may do; a reason that is not here cannot be written.
 */

export interface ReasonText {
  /** What happened, in one sentence. */
  readonly meaning: string;
  /** What it mostly comes from, in one sentence. */
  readonly cause: string;
  /** What to do about it, in one sentence. */
  readonly remedy: string;
  /**
   * `message`: it would be refused again, whatever its entity. `predecessor`: it only lacked one, and can be applied once that is
   * there; AUTO_REPLAY takes these. `other`: it failed by itself, and an operator decides.
   */
  readonly fault: 'message' | 'predecessor' | 'other';
}

export interface RejectionText extends ReasonText {
  /**
   * Whether what is rejected for it may be the next event of its entity, or one behind that: where the entity is parked, it
   * stays so until its version has passed it. The others are not known to be the entity's, or are behind its version.
   */
  readonly inSequence: boolean;
}

const table = {
  malformed: {
    meaning: 'The body is not one well-formed JSON object in UTF-8, or the envelope lacks a required field.',
    cause: 'A producer that writes something else than events here, or cuts them off.',
    remedy: 'Correct the producer; publish the corrected event.',
    fault: 'message',
    inSequence: false,
  },
  too_large: {
    meaning: 'The body or the header block is over its limit.',
    cause: 'Content that belongs elsewhere (a file, an image) was put into the event.',
    remedy: 'Send a reference instead of the content, or raise the limit.',
    fault: 'message',
    inSequence: false,
  },
  unsupported: {
    meaning: 'The content encoding or the schema version is not one that Inorder reads.',
    cause: 'A producer that compresses, or speaks a newer version of the format.',
    remedy: 'Publish as plain JSON or CloudEvents 1.0.',
    fault: 'message',
    inSequence: false,
  },
  invalid_entity: {
    meaning: 'The entity id is missing, empty, not a string, too long, or has control characters.',
    cause: 'A field that was renamed, or a number where a string belongs.',
    remedy: 'Give every event the id of its entity as a string.',
    fault: 'message',
    inSequence: false,
  },
  invalid_sequence: {
    meaning:
      'The sequence is missing, not a whole number from 1 up (from 0 where FIRST_SEQUENCE is 0), or more than 1,000,000 ahead of the version.',
    cause: 'A counter that starts at 0, a timestamp in its place, or no sequence at all.',
    remedy: 'Number the events of each entity 1, 2, 3… where they are made, or set FIRST_SEQUENCE=0 for 0, 1, 2…',
    fault: 'message',
    inSequence: false,
  },
  misrouted: {
    meaning: 'The routing key differs from the entity id, so another shard owns the entity.',
    cause: 'A producer that computes the routing key in another way than the entity id.',
    remedy: 'Publish with the entity id as the routing key.',
    fault: 'other',
    inSequence: false,
  },
  sequence_conflict: {
    meaning: 'Its sequence was already taken by another event: applied with other content, or passed over as a copy of an earlier one.',
    cause: 'Two producers number the same entity, or one began again at 1.',
    remedy: 'Let one producer number each entity; publish the event under the next sequence if it is still wanted.',
    fault: 'other',
    inSequence: false,
  },
  message_id_conflict: {
    meaning: 'Another event with other content was already applied under this id.',
    cause: 'Ids that are unique in one producer only, or were changed after publishing.',
    remedy: 'Make ids unique; publish the event again with a new id.',
    fault: 'other',
    inSequence: true,
  },
  gap_timeout: {
    meaning: 'A predecessor did not arrive within GAP_TIMEOUT_MS.',
    cause: 'An event was never published or not confirmed, or its predecessor is a dead letter itself.',
    remedy: 'Find the missing event, publish it, then replay the entity.',
    fault: 'predecessor',
    inSequence: true,
  },
  buffer_overflow: {
    meaning: 'Too much was held, in its entity or in the whole shard, so its gap ended early.',
    cause:
      'A producer that lost one event and goes on fast; MAX_BUFFERED_PER_ENTITY, PREFETCH (80 %) or MEMORY_BUDGET_MIB too low for the disorder.',
    remedy: 'Find the missing event, publish it, then replay the entity; look for a producer that lost events.',
    fault: 'predecessor',
    inSequence: true,
  },
  entity_parked: {
    meaning: 'An earlier event of the entity was dead-lettered; this one follows it.',
    cause: 'The reason of the first dead letter of its entity.',
    remedy: 'Resolve the earlier one, then replay the entity.',
    fault: 'predecessor',
    inSequence: true,
  },
  out_of_order: {
    meaning: 'It came before its predecessor and ORDERING_VIOLATION_STRATEGY is `fail`.',
    cause: 'Several producers or retries, which buffering would put right.',
    remedy: 'Replay the entity once the predecessor is there, or buffer.',
    fault: 'predecessor',
    inSequence: true,
  },
  late: {
    meaning: 'The version of its entity had already passed over its sequence.',
    cause:
      'A gap that ended with GAP_TIMEOUT_ACTION=skip-ahead, a sequence that an operator skipped, or one below the base line of FIRST_SEQUENCE=any.',
    remedy: 'Decide by hand whether its effect is still wanted.',
    fault: 'other',
    inSequence: false,
  },
  not_created: {
    meaning: 'The first event of the entity is not one that creates it.',
    cause: 'The stream is older than this store, or the creating event was lost.',
    remedy: 'Publish the creating event under the first sequence, or set FIRST_SEQUENCE=any to adopt a running stream.',
    fault: 'other',
    inSequence: true,
  },
  refused: {
    meaning: "The aggregate's rules do not allow this event in the entity's state.",
    cause: 'The producer does not know the state, or another event was applied before it.',
    remedy: 'Correct the event or the state; the detail names the rule.',
    fault: 'other',
    inSequence: true,
  },
  invalid_data: {
    meaning: "The data does not satisfy the aggregate's schema.",
    cause: 'A producer of another version, or a schema that is too strict.',
    remedy: 'Correct the event; the detail names the field.',
    fault: 'other',
    inSequence: true,
  },
  no_processor: {
    meaning: 'No processor is configured for this entity type.',
    cause: 'A new entity type, or a worker of an older version.',
    remedy: 'Add one to PROCESSOR, or correct entity_type or ENTITY_TYPE.',
    fault: 'other',
    inSequence: true,
  },
  handler_failed: {
    meaning: 'The processor failed after every attempt, or said that trying again is useless.',
    cause: 'What the processor calls is unavailable for longer than the retries, or the event triggers a defect in it.',
    remedy: 'Read the detail, repair the processor or what it calls, then replay the entity.',
    fault: 'other',
    inSequence: true,
  },
  process_killed: {
    meaning: 'Its processor ended the process again and again, also when no other event was being tried.',
    cause: 'A call that exits, more memory than there is, or an error that the processor does not wait for and nobody catches.',
    remedy: 'Repair the processor, or give the worker more memory, then replay the entity.',
    fault: 'other',
    inSequence: true,
  },
  process_blocked: {
    meaning:
      'Its processor blocked the event loop until the process was ended or had lost its shard, also when no other event was being tried.',
    cause: 'A loop that does not end, or a computation that takes longer than HANDLER_TIMEOUT_MS.',
    remedy: 'Repair the processor, then replay the entity.',
    fault: 'other',
    inSequence: true,
  },
  state_too_large: {
    meaning: 'The state of the entity would exceed its limit.',
    cause: 'A list in the state that only ever grows.',
    remedy: 'Keep less in the state.',
    fault: 'other',
    inSequence: true,
  },
} as const satisfies Record<string, RejectionText>;

export type RejectionReason = keyof typeof table;

export const rejectionReasons: Readonly<Record<RejectionReason, RejectionText>> = table;
