/**
 * The files that the browser gets, read once: everything in `page/`, and the two libraries from where they are installed. A
 * request names one of them or nothing, so no path leads anywhere else.
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface PageFile {
  readonly contentType: string;
  readonly content: Buffer;
}

const contentTypes: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
};

/** Modules of the page's own folder `vendor`, and the packages that they are. */
const libraries: Readonly<Record<string, string>> = { 'vendor/preact.js': 'preact', 'vendor/htm.js': 'htm' };

/** By path below `/console/`. */
export function loadPageFiles(): ReadonlyMap<string, PageFile> {
  const files = new Map<string, PageFile>();
  const folder = new URL('./page/', import.meta.url);
  for (const name of readdirSync(folder)) {
    const contentType = contentTypes[name.split('.').at(-1) ?? ''];
    if (contentType !== undefined) files.set(name, { contentType, content: readFileSync(new URL(name, folder)) });
  }
  for (const [path, library] of Object.entries(libraries)) {
    files.set(path, { contentType: contentTypes['js']!, content: readFileSync(new URL(import.meta.resolve(library))) });
  }
  return files;
}
