/**
 * The kinds of values of variables. Each describes what it accepts, for error messages, help and
 * README alike, and parses text into its value or null. None of them guesses or falls back to a
 * default: `08`, `1e3` and `0x10` are no whole numbers. White space around a value is removed before.
 */
import type { FirstSequence } from '../ordering/limits.ts';
import type { Durability } from './config.ts';

export interface ValueKind<T> {
  /** Completes the sentence "it must be …". */
  readonly allowed: string;
  /** Null if the text is not allowed. */
  readonly parse: (text: string) => T | null;
}

/** A whole number in decimal digits, with a minus if negative, from `min` to `max`; without `max` up to the largest exact number. */
export function wholeNumber(min: number, max = Number.MAX_SAFE_INTEGER): ValueKind<number> {
  return {
    allowed: `a whole number from ${grouped(min)} ${max === Number.MAX_SAFE_INTEGER ? 'up' : `to ${grouped(max)}`}`,
    parse(text) {
      if (!/^(0|-?[1-9][0-9]{0,15})$/.test(text)) return null;
      const value = Number(text);
      return value >= min && value <= max ? value : null;
    },
  };
}

export function oneOf<const T extends string>(...values: readonly T[]): ValueKind<T> {
  return {
    allowed: values.length === 1 ? `\`${values[0]}\`` : `one of ${values.map((value) => `\`${value}\``).join(', ')}`,
    parse: (text) => values.find((value) => value === text) ?? null,
  };
}

export const trueOrFalse: ValueKind<boolean> = {
  allowed: '`true` or `false`',
  parse: (text) => (text === 'true' ? true : text === 'false' ? false : null),
};

/** Text that matches a pattern, unchanged. */
export function matching(pattern: RegExp, allowed: string): ValueKind<string> {
  return { allowed, parse: (text) => (pattern.test(text) ? text : null) };
}

export const durability: ValueKind<Durability> = {
  allowed: '`none`, `aof`, or `replicas:` and a number from 1 to 9',
  parse(text) {
    if (text === 'none' || text === 'aof') return { kind: text };
    const [, count] = /^replicas:([1-9])$/.exec(text) ?? [];
    return count === undefined ? null : { kind: 'replicas', count: Number(count) };
  },
};

/** The first sequence of a stream's entities, or `any`. */
export const firstSequence: ValueKind<FirstSequence> = {
  allowed: '`0`, `1` or `any`',
  parse: (text) => (text === '0' ? 0 : text === '1' ? 1 : text === 'any' ? 'any' : null),
};

/** `all`, or numbers and ranges; they are checked against SHARDS later. */
export const shardList: ValueKind<'all' | readonly number[]> = {
  allowed: '`all`, or numbers and ranges such as `0-3,6`',
  parse(text) {
    if (text === 'all') return 'all';
    const shards = new Set<number>();
    for (const part of text.split(',')) {
      const match = /^\s*([0-9]{1,4})(?:-([0-9]{1,4}))?\s*$/.exec(part);
      if (!match) return null;
      const first = Number(match[1]);
      const last = Number(match[2] ?? match[1]);
      if (last < first) return null;
      for (let shard = first; shard <= last; shard++) shards.add(shard);
    }
    return [...shards].sort((a, b) => a - b);
  },
};

/** One or more AMQP URLs, separated by commas (a comma in a password is written `%2C`). */
export const amqpUrls: ValueKind<readonly [string, ...string[]]> = {
  allowed: 'an `amqp://` or `amqps://` URL, or several separated by commas',
  parse(text) {
    const [first, ...others] = text.split(',').map((part) => part.trim());
    if (first === undefined || ![first, ...others].every((part) => isUrl(part, ['amqp:', 'amqps:']))) return null;
    return [first, ...others];
  },
};

/** One Redis, the nodes of a cluster, or sentinels with the name of the master. */
export const redisUrl: ValueKind<string> = {
  allowed: 'a `redis://` or `rediss://` URL, `redis+cluster://host:port,host:port`, or `redis+sentinel://host:port,host:port/master-name`',
  parse(text) {
    const match = /^rediss?(?:\+(cluster|sentinel))?:\/\/(.*)$/.exec(text);
    if (!match) return null;
    const nodes = match[2]!.split(',').map((node) => `redis://${node.replace(/^rediss?:\/\//, '')}`);
    if (!nodes.every((node) => isUrl(node, ['redis:']))) return null;
    const path = new URL(nodes.at(-1)!).pathname;
    const allowedPath = match[1] === 'sentinel' ? /^\/[^/]+(\/[0-9]+)?$/ : /^(\/[0-9]*)?$/;
    return allowedPath.test(path) ? text : null;
  },
};

export const postgresUrl: ValueKind<string> = {
  allowed: 'a `postgres://` or `postgresql://` URL with a database, such as `postgres://user:password@localhost:5432/inorder`',
  parse(text) {
    if (!isUrl(text, ['postgres:', 'postgresql:'])) return null;
    return /^\/[^/]+$/.test(new URL(text).pathname) ? text : null;
  },
};

export const httpUrl: ValueKind<string> = {
  allowed: 'an `http://` or `https://` URL',
  parse: (text) => (isUrl(text, ['http:', 'https:']) ? text : null),
};

/** Of the whole name, as the permissions of RabbitMQ would be with `^` and `$`. */
export const queuePattern: ValueKind<RegExp> = {
  allowed: 'a regular expression that the whole name of a queue has to match, such as `replies\\..*`',
  parse(text) {
    try {
      // On its own as well: `a)|(b` must not get out of the brackets.
      return new RegExp(text) && new RegExp(`^(?:${text})$`);
    } catch {
      return null;
    }
  },
};

function isUrl(text: string, protocols: readonly string[]): boolean {
  // The scheme is compared as text first: `new URL` also takes `amqp:host` and strips line ends and tabs.
  if (/[\s,]/.test(text) || !protocols.some((protocol) => text.startsWith(`${protocol}//`))) return false;
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return url.hostname !== '' && url.port !== '0' && isPercentDecodable(url);
}

// Credentials and virtual hosts are decoded by the clients, which throw on a stray percent sign.
function isPercentDecodable(url: URL): boolean {
  try {
    [url.username, url.password, url.pathname].forEach(decodeURIComponent);
    return true;
  } catch {
    return false;
  }
}

function grouped(value: number): string {
  return value.toLocaleString('en-US');
}
