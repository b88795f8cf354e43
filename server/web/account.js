/** The user's settings and secrets over REST. Values of secrets go one way only. */

/** @typedef {{name: string, description: string}} SecretInfo */

export class Account {
  /** @param {import("./http.js").Http} http */
  constructor(http) {
    this.http = http;
  }

  /** @returns {Promise<Record<string, any>>} */
  settings() {
    return this.http.call("GET", "/api/settings");
  }

  /** The server keeps what is not given. @param {Record<string, any>} change */
  changeSettings(change) {
    return this.http.call("POST", "/api/settings", { json: change });
  }

  /**
   * Ask a model for a word; what is empty is as it is stored.
   *
   * @param {Record<string, string>} trial
   * @returns {Promise<{works: boolean, message: string, reason: string | null}>}
   */
  tryModel(trial) {
    return this.http.call("POST", "/api/settings/try-model", { json: trial });
  }

  /** Whether tool servers may be programs. @returns {Promise<boolean>} */
  async mayRunPrograms() {
    return (await this.http.call("GET", "/api/options/config")).FEATURE_FLAGS.ALLOW_MCP_STDIO === true;
  }

  /** Names of models that the server knows of. @returns {Promise<string[]>} */
  models() {
    return this.http.call("GET", "/api/options/models");
  }

  /** @returns {Promise<SecretInfo[]>} */
  async secrets() {
    return (await this.http.call("GET", "/api/secrets")).custom_secrets;
  }

  /** @param {SecretInfo & {value: string}} secret */
  addSecret(secret) {
    return this.http.call("POST", "/api/secrets", { json: secret });
  }

  /** The value stays. @param {string} name @param {SecretInfo} facts */
  changeSecret(name, facts) {
    return this.http.call("PUT", `/api/secrets/${encodeURIComponent(name)}`, { json: facts });
  }

  /** @param {string} name */
  removeSecret(name) {
    return this.http.call("DELETE", `/api/secrets/${encodeURIComponent(name)}`);
  }

  /** @returns {Promise<Record<string, string | null>>} hosts with a token, by provider */
  async tokens() {
    return (await this.settings()).provider_tokens_set;
  }

  /** @param {string} provider @param {string} token @param {string} host "" for the provider's own */
  addToken(provider, token, host) {
    const json = { provider_tokens: { [provider]: { token, host: host || null } } };
    return this.http.call("POST", "/api/add-git-providers", { json });
  }

  /** Removes every token; the server knows no single removal. */
  removeTokens() {
    return this.http.call("POST", "/api/unset-provider-tokens", { json: {} });
  }
}
