/**
 * What a process holds, told from within: loaded into it with `--import`, it answers each SIGWINCH, which nobody else uses, with a line of
 * JSON at the end of the file PROBE_FILE. It imports nothing of the project, to change little of what it measures.
 *
 * It counts what is alive after a garbage collection, whoever refers to it: the inspector finds every emitter and every timer of the heap,
 * so that a listener on an object that is in no list of handles counts as well.
 */
import { EventEmitter } from 'node:events';
import { appendFileSync, existsSync, readdirSync } from 'node:fs';
import { Session } from 'node:inspector';
import { isMainThread } from 'node:worker_threads';

/** Bytes, or how many there are. */
export interface Holdings {
  /** JavaScript objects, after a garbage collection. */
  readonly heapBytes: number;
  /** Buffers, after a garbage collection. */
  readonly bufferBytes: number;
  readonly residentBytes: number;
  /** Files, sockets, pipes: file descriptors of any kind. */
  readonly descriptors: number;
  readonly sockets: number;
  readonly emitters: number;
  readonly listeners: number;
  /** That have not fired for the last time and are not cancelled. */
  readonly timers: number;
}

const prototypes = Symbol.for('prototypes whose objects are counted');

function install(file: string): void {
  const timer = setTimeout(() => undefined, 0);
  Object.assign(globalThis, { [prototypes]: { emitter: EventEmitter.prototype, timer: Object.getPrototypeOf(timer) } });
  clearTimeout(timer);
  process.on('SIGWINCH', () => {
    const session = new Session();
    session.connect();
    try {
      const counts = countedBy(session);
      // The inspector collects before it looks for objects.
      const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
      const resources = process.getActiveResourcesInfo();
      const holdings: Holdings = {
        heapBytes: heapUsed,
        bufferBytes: arrayBuffers,
        residentBytes: rss,
        // One is that of the directory which is read.
        descriptors: existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length - 1 : 0,
        sockets: resources.filter((name) => name === 'TCPSocketWrap' || name === 'PipeWrap' || name === 'TLSWrap').length,
        ...counts,
      };
      appendFileSync(file, `${JSON.stringify(holdings)}\n`);
    } catch (error) {
      appendFileSync(file, `${JSON.stringify({ error: String(error) })}\n`);
    } finally {
      session.disconnect();
    }
  });
}

function countedBy(session: Session): Pick<Holdings, 'emitters' | 'listeners' | 'timers'> {
  const count = <T>(name: 'emitter' | 'timer', declaration: string): T => {
    const prototype = `globalThis[Symbol.for(${JSON.stringify(prototypes.description)})].${name}`;
    const objects = posted(session, 'Runtime.evaluate', { expression: prototype, objectGroup: 'probe' }).result.objectId;
    const all = posted(session, 'Runtime.queryObjects', { prototypeObjectId: objects, objectGroup: 'probe' }).objects.objectId;
    const call = { objectId: all, functionDeclaration: declaration, returnByValue: true };
    const { result, exceptionDetails } = posted(session, 'Runtime.callFunctionOn', call);
    posted(session, 'Runtime.releaseObjectGroup', { objectGroup: 'probe' });
    if (exceptionDetails !== undefined) throw new Error(`the ${name}s cannot be counted: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  };
  const emitters = count<{ emitters: number; listeners: number }>(
    'emitter',
    `function () {
      const listeners = (emitter) => Object.values(emitter._events ?? {}).reduce((sum, on) => sum + (Array.isArray(on) ? on.length : 1), 0);
      return { emitters: this.length, listeners: this.reduce((sum, emitter) => sum + listeners(emitter), 0) };
    }`,
  );
  return {
    ...emitters,
    timers: count<number>('timer', 'function () { return this.filter((timer) => timer._destroyed === false).length; }'),
  };
}

/** The inspector of this very thread answers before it returns. */
function posted(session: Session, method: string, params: object): any {
  let answer: unknown;
  session.post(method, params, (error, result) => {
    if (error !== null) throw new Error(`${method}: ${error.message}`);
    answer = result;
  });
  return answer;
}

if (isMainThread && process.env.PROBE_FILE !== undefined) install(process.env.PROBE_FILE);
