/**
 * The names of everything that Inorder keeps in Redis.
 *
 *   inorder:<stream>:{<type>:<id>}:entity   version, holes, state, parked, last token, epochs; never expires
 *   inorder:<stream>:{<type>:<id>}:ids      idempotency records
 *   inorder:<stream>:{<type>:<id>}:log      applied events, if EVENT_LOG keeps them; never expires
 *   inorder:<stream>:{<type>:<id>}:dead     reasons of dead letters
 *   inorder:<stream>:{:<fingerprint>}:dead  the reason of a dead letter without an entity, or with an entity whose key is unusable
 *   inorder:<stream>:epoch                  the last epoch handed out
 *   inorder:<stream>:{…}:standing           identity of the store, halts, layout, and what a write is tried with; in the slot of the epoch
 *   inorder:<stream>:{…}:sessions           sessions of shards that have not taken their leave, in the slot of the epoch
 *   inorder:<stream>:audit                  who changed what
 *   inorder:<stream>:kept                   written before each WAIT; nobody reads it
 *
 * Guarantees that different names never share a key, that the keys of one entity share one cluster slot, and that
 * no name is a pattern, whatever characters it has. Names are well-formed text: the decoder of events refuses others.
 */
import { createHash } from 'node:crypto';
import type { EntityRef } from '../../events/event.ts';
import type { DeadLetterQuery } from '../store.ts';

/** Fields of a small hash stay in Redis' compact encoding up to 64 bytes. */
const maxFieldBytes = 64;

export class Keys {
  /** The prefix of every key of the stream. */
  readonly #prefix: string;
  readonly epoch: string;
  readonly streamState: string;
  readonly sessions: string;
  readonly audit: string;
  readonly kept: string;

  constructor(stream: string) {
    this.#prefix = `inorder:${encode(stream)}:`;
    this.epoch = `${this.#prefix}epoch`;
    // The text between braces decides the slot: here the whole key of the epoch.
    this.streamState = `${this.#prefix}{${this.epoch}}:standing`;
    this.sessions = `${this.#prefix}{${this.epoch}}:sessions`;
    this.audit = `${this.#prefix}audit`;
    this.kept = `${this.#prefix}kept`;
  }

  entity(ref: EntityRef): string {
    return `${this.#tag(ref.entityType, ref.entityId)}:entity`;
  }

  ids(ref: EntityRef): string {
    return `${this.#tag(ref.entityType, ref.entityId)}:ids`;
  }

  log(ref: EntityRef): string {
    return `${this.#tag(ref.entityType, ref.entityId)}:log`;
  }

  deadLetters(query: DeadLetterQuery): string {
    const { entityType, entityId, fingerprint } = query;
    if (entityType === null || entityId === null) return `${this.#tag('', fingerprint)}:dead`;
    return `${this.#tag(entityType, entityId)}:dead`;
  }

  /** The pattern of SCAN that matches the entities, of one type or of all. */
  entityPattern(entityType: string | undefined): string {
    return `${this.#prefix}{${entityType === undefined ? '' : encode(entityType)}${entityType === undefined ? '' : ':'}*}:entity`;
  }

  /** The entity of a key found with `entityPattern`; null when the key is not ours. */
  parseEntity(key: string): EntityRef | null {
    const match = /^\{([^:{}]*):([^:{}]*)\}:entity$/.exec(key.slice(this.#prefix.length));
    if (!key.startsWith(this.#prefix) || match === null) return null;
    try {
      return { entityType: decodeURIComponent(match[1] ?? ''), entityId: decodeURIComponent(match[2] ?? '') };
    } catch {
      return null;
    }
  }

  #tag(entityType: string, entityId: string): string {
    return `${this.#prefix}{${encode(entityType)}:${encode(entityId)}}`;
  }
}

/** Percent-encoding keeps `*`, which would turn a name into a pattern. */
function encode(name: string): string {
  return encodeURIComponent(name).replaceAll('*', '%2A');
}

/** The field under which an id is recorded: the id itself, or the digest of a long one. */
export function idField(id: string): string {
  const field = `@${id}`;
  if (Buffer.byteLength(field) <= maxFieldBytes) return field;
  return `%${createHash('sha256').update(id).digest('base64url')}`;
}

/** The field under which a sequence is recorded. */
export function sequenceField(sequence: number): string {
  return `#${sequence}`;
}

/**
 * The names of an event store's keys in Redis. Unlike the keys above, all those of a stream are in one slot of a
 * cluster: one order for all events needs one place.
 *
 *   inorder:{<stream>}:events                     all events, by position
 *   inorder:{<stream>}:events:<type>:<id>         positions of an entity's events
 *   inorder:{<stream>}:event-ids:<type>:<id>      ids of an entity's events
 *   inorder:{<stream>}:snapshot:<type>:<id>       its newest snapshot
 *   inorder:{<stream>}:kept                       written before each WAIT; nobody reads it
 *   inorder:{<stream>}:relay                      who relays, and how far that has come
 *   inorder:{<stream>}:layout                     the version of the layout of these keys
 */
export class EventKeys {
  readonly #prefix: string;
  readonly log: string;
  readonly relay: string;
  readonly layout: string;
  readonly kept: string;

  constructor(stream: string) {
    this.#prefix = `inorder:{${encodeURIComponent(stream)}}:`;
    this.log = `${this.#prefix}events`;
    this.relay = `${this.#prefix}relay`;
    this.layout = `${this.#prefix}layout`;
    this.kept = `${this.#prefix}kept`;
  }

  entity(ref: EntityRef): string {
    return `${this.#prefix}events:${nameOf(ref)}`;
  }

  ids(ref: EntityRef): string {
    return `${this.#prefix}event-ids:${nameOf(ref)}`;
  }

  snapshot(ref: EntityRef): string {
    return `${this.#prefix}snapshot:${nameOf(ref)}`;
  }
}

function nameOf({ entityType, entityId }: EntityRef): string {
  return `${encodeURIComponent(entityType)}:${encodeURIComponent(entityId)}`;
}
