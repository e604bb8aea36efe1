export { ProjectTokenAuthenticator } from './project-token.authenticator.js';
