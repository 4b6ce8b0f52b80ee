/**
 * Ports for private nodes, all on the loopback address.
 *
 * They are drawn from below the range from which systems take the ports of outgoing connections (32768 on Linux,
 * 49152 elsewhere): a node that is killed and restarted later must find its own port still free, and a
 * client of some other process must not have taken it meanwhile. Two processes may still draw the same number
 * at the same moment; whoever starts a node therefore draws again when it fails to listen.
 */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

export const loopback = '127.0.0.1';

const lowestPort = 20_000;
const highestPort = 32_000;
const drawsBeforeGivingUp = 200;

const alreadyDrawn = new Set<number>();

function canListenOn(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen({ port, host: loopback, exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

/** A port on which nothing listens now and which this process has not handed out before. */
export async function freePort(): Promise<number> {
  for (let draw = 0; draw < drawsBeforeGivingUp; draw += 1) {
    const port = randomInt(lowestPort, highestPort);
    if (alreadyDrawn.has(port)) continue;
    if (await canListenOn(port)) {
      alreadyDrawn.add(port);
      return port;
    }
  }
  throw new Error(`found no free port between ${lowestPort} and ${highestPort} in ${drawsBeforeGivingUp} draws`);
}
