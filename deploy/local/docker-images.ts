/**
 * Whether an engine has an image or can get it.
 *
 * An engine that answers without reaching a registry must cost seconds, not minutes, and a slow registry must still
 * do: so a pull may take its time as long as the engine reports progress.
 */
import type { getContainerRuntimeClient } from 'testcontainers';

export type ContainerEngine = Awaited<ReturnType<typeof getContainerRuntimeClient>>;

const pullSilenceMs = 20_000;
const noSuchImage = 404;

/** Null when the image is present now, otherwise why it cannot be had. `announce` is called before a pull. */
export async function obtainImage(engine: ContainerEngine, image: string, announce: () => void): Promise<string | null> {
  try {
    await engine.container.dockerode.getImage(image).inspect();
    return null;
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode !== noSuchImage) return messageOf(error);
  }
  announce();
  return pull(engine, image);
}

/** Pulls with the engine's own progress messages as the sign of life. */
async function pull(engine: ContainerEngine, image: string): Promise<string | null> {
  const givingUp = new AbortController();
  const silence = setTimeout(() => givingUp.abort(), pullSilenceMs);
  try {
    const messages = await engine.container.dockerode.pull(image, { abortSignal: givingUp.signal });
    let lastWords = '';
    for await (const chunk of messages) {
      silence.refresh();
      lastWords = (lastWords + String(chunk)).slice(-10_000);
    }
    // The engine answers 200 before it knows; a failure then comes as the last message.
    return /"error":"([^"]*)/.exec(lastWords)?.[1] ?? null;
  } catch (error) {
    return givingUp.signal.aborted ? `no progress for ${pullSilenceMs / 1000} s` : messageOf(error);
  } finally {
    clearTimeout(silence);
  }
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).trim();
}
