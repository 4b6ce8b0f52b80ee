/** The answers of the API: types for the modules of both the server and the page. Null if unknown. */

export interface Session {
  /** Whoever asks may change things. */
  readonly admin: boolean;
  /** By a token of TOKENS_FILE, or by the proxy. */
  readonly user: string | null;
  /** There is a token that unlocks changes. */
  readonly has_token: boolean;
}

export interface Totals {
  readonly delivered: number;
  readonly applied: number;
  readonly duplicate: number;
  readonly skipped: number;
  readonly dead_lettered: number;
}

export interface Shard {
  readonly shard: number;
  readonly queue: string;
  readonly ready: number | null;
  readonly consumers: number | null;
  /** The owner: the worker with the latest epoch. Null if no known worker owns the shard. */
  readonly worker: string | null;
  /** Address of the active consumer. */
  readonly consumer: string | null;
  /** The state by the owner: consuming, paused…; `standby` if one waits for the shard, `unknown` otherwise. */
  readonly state: string;
  readonly held: number | null;
  readonly gaps: number | null;
  readonly totals: Totals | null;
}

/** As the worker that holds its events says. */
export interface Gap {
  readonly entity_type: string;
  readonly entity_id: string;
  readonly version: number;
  readonly missing_from: number;
  readonly missing_to: number;
  readonly held: number;
  readonly waiting_ms: number;
  readonly ends_in_ms: number;
}

export interface Overview {
  readonly stream: string;
  readonly at_ms: number | null;
  readonly problems: readonly string[];
  readonly workers: readonly { readonly name: string; readonly state: string | null; readonly not_ready: readonly string[] }[];
  readonly shards: readonly Shard[];
  readonly gaps: { readonly rows: readonly (Gap & { readonly shard: number; readonly worker: string })[]; readonly total: number | null };
  readonly unrouted: number | null;
  readonly dead_letters: {
    readonly ready: number | null;
    readonly revision: number;
    readonly reading: number | null;
    readonly trouble: string | null;
  };
}

export interface ParkedState {
  readonly reason: string;
  readonly detail: string;
  readonly sequence: number;
  readonly at: string;
  readonly replaying: boolean;
}

export interface ParkedList {
  readonly total: number;
  readonly scanned: number;
  readonly entities: readonly {
    readonly entity_type: string;
    readonly entity_id: string;
    readonly version: number;
    readonly parked: ParkedState;
  }[];
}

export interface Group {
  readonly name: string | null;
  readonly count: number;
  readonly first: string | null;
  readonly last: string | null;
  /** What to search for to find its letters; null where they have nothing to be searched by. */
  readonly search: Readonly<Record<string, string>> | null;
}

export interface Groups {
  readonly rows: readonly Group[];
  readonly total: number;
}

export interface Letter {
  readonly message_id: string;
  readonly fingerprint: string;
  readonly entity_type: string | null;
  readonly entity_id: string | null;
  readonly sequence: number | null;
  readonly type: string | null;
  readonly reason: string;
  readonly detail: string;
  readonly shard: number | null;
  readonly dead_lettered_at: string | null;
  readonly replays: number;
}

/** `revision` is 0, and nothing else there, before the first reading. */
export interface Letters {
  readonly revision: number;
  readonly as_of: string;
  readonly total: number;
  readonly kept: number;
  readonly found: number;
  readonly groups: Readonly<Record<string, Groups>>;
  readonly letters: readonly Letter[];
}

export interface Payload {
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly routing_key: string;
  readonly body_kind: 'json' | 'text' | 'base64';
  readonly body: string;
  readonly cut_bytes: number;
}

export interface LetterDetail extends Letter {
  readonly copies: number;
  readonly meaning: string;
  readonly cause: string;
  readonly remedy: string;
  /** Where in a processor it came from. */
  readonly stack: string | null;
  readonly replayed_at: readonly string[];
  readonly status: string | null;
  readonly entity_version: number | null;
  readonly entity_parked: boolean | null;
  readonly missing: number | null;
  readonly content_type: string | null;
  readonly body_bytes: number;
  readonly payload: Payload | null;
}

export interface Run {
  readonly state: 'applied' | 'hole' | 'missing' | 'held' | 'dead-lettered';
  readonly from: number;
  readonly to: number;
  /** Why, of dead letters. */
  readonly reason?: string;
  /** The fingerprint of a single dead letter. */
  readonly fingerprint?: string;
}

export interface Entity {
  readonly entity_type: string;
  readonly entity_id: string;
  readonly exists: boolean;
  readonly version: number;
  readonly holes: string;
  readonly parked: ParkedState | null;
  readonly gap: Gap | null;
  readonly dead_letters: number;
  /** Of them: those of its id whose sequence or type cannot be read. */
  readonly unread: number;
  readonly letters_as_of: string | null;
  readonly runs: readonly Run[];
  readonly more: number;
  readonly passed: readonly {
    readonly message_id: string;
    readonly sequence: number | null;
    readonly reason: string;
    readonly fingerprint: string;
  }[];
}

export interface AuditEntry {
  readonly at: string;
  readonly action: string;
  readonly who: string;
  readonly entity_type: string | null;
  readonly entity_id: string | null;
  readonly what: string;
  readonly reason: string;
}

export interface PlannedEntity {
  readonly entity_type: string;
  readonly entity_id: string;
  readonly version: number | null;
  readonly letters: number;
  readonly sequences: string;
  readonly blocked: { readonly sequences: string; readonly missing: number; readonly why: string } | null;
}

export interface Change {
  readonly id: string;
  readonly action: 'replay' | 'discard';
  readonly state: 'planning' | 'planned' | 'running' | 'settling' | 'done' | 'failed' | 'stopped';
  readonly why: string;
  readonly skip_sequence: boolean;
  readonly read: number;
  readonly done: number;
  readonly total: number | null;
  readonly error: string | null;
  readonly plan: {
    readonly letters: number;
    readonly blocked: number;
    readonly unordered: number;
    readonly entity_count: number;
    readonly entities: readonly PlannedEntity[];
    readonly not_replayable_count?: number;
    readonly not_replayable?: readonly {
      readonly entity_type: string | null;
      readonly entity_id: string | null;
      readonly sequence: number | null;
      readonly reason: string;
      readonly why: string;
    }[];
  } | null;
  readonly outcome: {
    readonly replayed?: number;
    readonly left?: number;
    readonly recovered?: number;
    readonly discarded?: number;
    readonly entity_count?: number;
    readonly entities?: readonly {
      readonly entity_type: string;
      readonly entity_id: string;
      readonly status: string;
      readonly version: number;
      readonly parked: ParkedState | null;
      readonly again: string | null;
    }[];
    readonly again?: number;
    readonly undecided?: number;
  } | null;
}
