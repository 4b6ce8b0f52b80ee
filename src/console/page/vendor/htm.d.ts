/** The module that the server serves under this name: the installed package. */
export { default } from 'htm';
