/**
 * The names of an event store's keys in Redis. Unlike the keys of `keys.ts`, all those of a stream are in one slot of a
 * cluster: one order for all events needs one place.
 *
 *   inorder:{<stream>}:events                     all events, by position
 *   inorder:{<stream>}:events:<type>:<id>         positions of an entity's events
 *   inorder:{<stream>}:event-ids:<type>:<id>      ids of an entity's events
 *   inorder:{<stream>}:snapshot:<type>:<id>       its newest snapshot
 *   inorder:{<stream>}:kept                       written before each WAIT; nobody reads it
 *   inorder:{<stream>}:relay                      who relays, and how far that has come
 */
import type { EntityRef } from '../../events/event.ts';

export class EventKeys {
  readonly #prefix: string;
  readonly log: string;
  readonly relay: string;
  readonly kept: string;

  constructor(stream: string) {
    this.#prefix = `inorder:{${encodeURIComponent(stream)}}:`;
    this.log = `${this.#prefix}events`;
    this.relay = `${this.#prefix}relay`;
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
