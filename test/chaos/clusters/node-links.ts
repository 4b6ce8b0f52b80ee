/**
 * The ways between Erlang nodes, through proxies, so that a node can be cut off from the others while clients still reach it. Each node
 * has a port mapper of its own to ask, which passes everything on to the real one and answers with the port of a proxy.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { epmdPort } from '../../../deploy/local/epmd.ts';
import { loopback } from '../../../deploy/local/free-port.ts';
import type { Owner } from '../../support/services.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';

/** The type of a request comes after its length, in two octets. */
const typeAt = 2;
/** Who is there? The answer begins with the port of the mapper, in four octets. */
const names = 110;
/** Where is this node? If it is known, the answer is a type, 0, and the port in two octets. */
const portPlease = 122;
const known = { length: 4, resultAt: 1, portAt: 2 };

/** The ways that lead away from one node. */
export class NodeLinks {
  /** Whom the node has to ask for the ports of others. */
  readonly mapperPort: number;
  readonly #owner: Owner;
  /** By the port of the other node. */
  readonly #proxies = new Map<number, Promise<TcpProxy>>();

  private constructor(owner: Owner, mapperPort: number) {
    this.#owner = owner;
    this.mapperPort = mapperPort;
  }

  static async start(owner: Owner): Promise<NodeLinks> {
    const realPort = await epmdPort();
    const sockets = new Set<Socket>();
    const server = createServer((client) => {
      const real = connect({ port: realPort, host: loopback });
      sockets.add(client);
      client.on('error', () => undefined);
      client.once('close', () => {
        sockets.delete(client);
        real.destroy();
      });
      real.on('error', () => client.destroy());
      // Whoever goes away has asked for nothing.
      links.#answer(client, real).catch(() => client.destroy());
    });
    server.listen(0, loopback);
    await once(server, 'listening');
    const links = new NodeLinks(owner, (server.address() as AddressInfo).port);
    owner.after(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return links;
  }

  /** The way to the node with this port. */
  to(port: number): Promise<TcpProxy> {
    const proxy = this.#proxies.get(port) ?? this.#open(port);
    this.#proxies.set(port, proxy);
    return proxy;
  }

  async #open(port: number): Promise<TcpProxy> {
    const proxy = await TcpProxy.start(`tcp://${loopback}:${port}`);
    this.#owner.after(() => proxy.stop());
    return proxy;
  }

  async #answer(client: Socket, real: Socket): Promise<void> {
    const [request] = (await once(client, 'data')) as [Buffer];
    real.write(request);
    client.pipe(real);
    const type = request[typeAt];
    if (type !== portPlease && type !== names) return void real.pipe(client);
    const answer: Buffer[] = [];
    real.on('data', (data) => answer.push(data));
    await once(real, 'end');
    client.end(await this.#rewritten(type, Buffer.concat(answer)));
  }

  async #rewritten(type: number, answer: Buffer): Promise<Buffer> {
    if (answer.length < known.length) return answer;
    if (type === names) answer.writeUInt32BE(this.mapperPort);
    if (type === names || answer[known.resultAt] !== 0) return answer;
    const proxy = await this.to(answer.readUInt16BE(known.portAt));
    answer.writeUInt16BE(proxy.port, known.portAt);
    return answer;
  }
}
