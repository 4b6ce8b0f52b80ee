/** The module that the server serves under this name: the installed package. */
export { Fragment, h, render } from 'preact';
export type { VNode } from 'preact';
