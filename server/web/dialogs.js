/** All dialogs that are built when they are first opened: one script, which the first look at the page does not need. */

import { mountEditDialog } from "./views/edit-dialog.js";
import { mountFilesDialog } from "./views/files-dialog.js";
import { mountNewDialog } from "./views/new-dialog.js";
import { mountSecretsDialog } from "./views/secrets-dialog.js";
import { mountSettingsDialog } from "./views/settings-dialog.js";
import { mountShortcutsDialog } from "./views/shortcuts-dialog.js";

export { mountEditDialog, mountFilesDialog, mountNewDialog, mountSecretsDialog, mountSettingsDialog, mountShortcutsDialog };
