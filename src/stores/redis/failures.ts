/**
 * The meaning of an error of Redis or of its client: either one entity is unusable, or the store cannot
 * serve now. After an `UnavailableError` the outcome is unknown, and the caller asks again with the same tokens.
 *
 * Messages name the cause and the remedy and never contain arguments of commands, which may be payloads.
 */
import { messageOf, noDescriptorLeft, UnavailableError } from '../../errors.ts';
import { tlsFailure } from '../../tls.ts';

/** One entity's keys do not hold what Inorder wrote there. */
export class UnusableEntityError extends Error {
  override readonly name = 'UnusableEntityError';
}

interface Condition {
  readonly matches: RegExp;
  readonly meaning: string;
  readonly remedy: string | ((words: string) => string);
}

const conditions: readonly Condition[] = [
  { ...noDescriptorLeft, matches: noDescriptorLeft.words },
  {
    matches: /^OOM\b/,
    meaning: 'it has reached maxmemory',
    remedy: 'Raise maxmemory or free memory; the eviction policy must stay noeviction.',
  },
  {
    matches: /^READONLY\b/,
    meaning: 'this node is a replica',
    remedy: 'Wait for the fail-over to end, or name the master (or the sentinels) in the URL.',
  },
  { matches: /cannot be used with replica instances/, meaning: 'this node has become a replica', remedy: 'Wait for the fail-over to end.' },
  { matches: /^LOADING\b/, meaning: 'it is still loading its data', remedy: 'Wait.' },
  {
    matches: /^BUSY\b/,
    meaning: 'a script has been running for too long',
    remedy: 'Find who runs it; SCRIPT KILL ends one that has not written.',
  },
  { matches: /^NOREPLICAS\b/, meaning: 'it has fewer replicas than min-replicas-to-write', remedy: 'Bring the replicas back.' },
  {
    matches: /^NOPERM\b|^(ERR )?(The user executing the script can't|ACL failure in script)\b/,
    meaning: 'its user may not do this',
    remedy: permissionRemedy,
  },
  { matches: /^(NOAUTH|WRONGPASS)\b/, meaning: 'user and password are not accepted', remedy: 'Correct the credentials in its URL.' },
  {
    matches: /^(CLUSTERDOWN|MASTERDOWN|TRYAGAIN|ASK)\b|\bscript attempted to access a non local key\b/i,
    meaning: 'a part of the cluster cannot serve now',
    remedy: 'Wait for the fail-over or the move of slots to end; look at CLUSTER INFO.',
  },
  { matches: /^(MOVED|CROSSSLOT)\b/, meaning: 'it is a node of a cluster', remedy: 'Use a URL that starts with redis+cluster://.' },
  { matches: /^MISCONF\b/, meaning: 'it cannot write its snapshots', remedy: 'Look at its log and its disk.' },
  { matches: /^NOSCRIPT\b/, meaning: 'scripts are removed faster than they can be loaded', remedy: 'Find who calls SCRIPT FLUSH.' },
  { matches: /^(EXECABORT|NOMULTI|UNKILLABLE|NOQUORUM)\b/, meaning: 'it refuses commands', remedy: 'Look at its log.' },
  {
    matches: /unknown command|max number of clients|max clients/i,
    meaning: 'it refuses this command or connection',
    remedy: 'Allow the command (rename-command, ACL), or raise maxclients.',
  },
  { matches: /timed? ?out/i, meaning: 'it did not answer in time', remedy: 'Look for slow commands, swapping and the network.' },
];

/** A script's refusal names its command from 7.2 on; before, `script.ts` adds it. */
function permissionRemedy(words: string): string {
  const [, user = 'USER'] = /\bUser (\S+) has no permissions/.exec(words) ?? [];
  const commands = [...words.matchAll(/'([\w|-]+)'(?= command| or ')/g)].map(([, command]) => `+${command}`);
  const missing = commands.length > 0 ? commands.join(' ') : /\bkeys?\b/.test(words) ? '~inorder:STREAM:* ~inorder:{STREAM}:*' : '+COMMAND';
  return `Allow it: ACL SETUSER ${user} ${missing} (\`inorder permissions\` prints what each role needs).`;
}

/**
 * The message of Redis, without the text that wraps a script's failure before 7.0:
 * `ERR Error running script (call to f_<digest>): @user_script:12: @user_script: 12: -READONLY You can't …`.
 */
function wordsOf(error: Error): string {
  return error.message.replace(/^ERR Error running script \(call to \w+\): (?:@user_script: ?\d+: )*-?/, '');
}

function conditionOf(error: Error): Condition | undefined {
  const words = wordsOf(error);
  return conditions.find(({ matches }) => matches.test(words));
}

/** True when another node may be the master at the same address by now, or the node may have finished loading. */
export function mayServeNextTime(error: Error): boolean {
  return /^(READONLY|LOADING)\b|\bcannot be used with replica instances\b/.test(wordsOf(error));
}

/**
 * True when the keys of one entity caused the error. Otherwise, and for every error that is not an answer
 * of Redis (a lost connection, a time-out), nothing is known about any entity.
 */
export function isEntityFailure(error: Error): boolean {
  if (error instanceof UnusableEntityError) return true;
  if (/^WRONGTYPE\b/.test(wordsOf(error))) return true;
  return isReply(error) && conditionOf(error) === undefined;
}

/** The error of one item; it names the key to look at. */
export function entityFailure(key: string, error: Error): Error {
  return new UnusableEntityError(`${key}: ${withoutArguments(error.message)}`);
}

/** What to look at when nothing else is known: a wrong kind of port says nothing. */
const questions = {
  plain: 'Is it running, and is the address right? A port for TLS needs rediss://.',
  tls: 'Is it running, is this its port for TLS, and do REDIS_TLS_CA_FILE, REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE fit it?',
  lost: 'Is it running, and is the address right?',
};

/** `where` as `describeTarget` returns it; `attempt`: of what kind it was, when there was no connection yet. */
export function unavailable(where: string, error: Error, attempt: keyof typeof questions = 'lost'): UnavailableError {
  if (error instanceof UnavailableError) return error;
  const cause = stripped(error);
  const failed = (what: string, remedy: string) => new UnavailableError(`${where} ${what}. ${remedy}`, { cause, remedy });
  const tls = tlsFailure(error, 'REDIS_URL');
  if (tls !== null) return failed(`cannot be reached: ${tls.meaning}`, tls.remedy);
  const condition = conditionOf(error);
  const original = withoutArguments(error.message || messageOf(error));
  if (condition !== undefined) return failed(`cannot serve: ${condition.meaning} (${original})`, remedyOf(condition, error));
  return new UnavailableError(`${where} cannot be reached: ${original}. ${questions[attempt]}`, { cause });
}

function remedyOf({ remedy }: Condition, error: Error): string {
  return typeof remedy === 'string' ? remedy : remedy(wordsOf(error));
}

function isReply(error: Error): boolean {
  return error.name === 'ReplyError';
}

/** The message of `unknown command` contains the first arguments. */
function withoutArguments(message: string): string {
  return message.replace(/,? with args beginning with:.*$/s, '').replace(/\.$/, '');
}

/** The client's errors contain the whole command, which a logger would print. */
function stripped(error: Error): Error {
  const copy = new Error(withoutArguments(error.message));
  copy.name = error.name;
  copy.stack = `${copy.name}: ${copy.message}`;
  return copy;
}
