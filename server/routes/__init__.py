"""The REST surface: which address leads where."""

from starlette.routing import BaseRoute

from server.routes.admin.table import Administration, admin_routes
from server.routes.approvals import ApprovalRoutes
from server.routes.conversations import ConversationRoutes
from server.routes.documents import DocumentRoutes
from server.routes.endpoint import NotFoundRoute, PageRoute, TrailingSlash, resource
from server.routes.events import EventRoutes, TrajectoryRoutes
from server.routes.files import FileRoutes
from server.routes.health import HealthRoutes, MetricsRoutes
from server.routes.not_offered import ExtraRoutes, GitHostRoutes
from server.routes.options import OptionRoutes
from server.routes.pages import AdminPageRoutes, page_routes
from server.routes.search import SearchRoutes
from server.routes.secrets import SecretsRoutes
from server.routes.services import Services
from server.routes.settings import SettingsRoutes
from server.routes.stream import StreamRoutes
from server.routes.turns import TurnRoutes
from server.routes.uploads import UploadRoutes
from server.routes.workspace import WorkspaceRoutes
from server.routes.workspace_files import WorkspaceFileRoutes

GIT_HOST_LISTS = (
    "installations",
    "repositories",
    "search/repositories",
    "repository/{name:path}/microagents",
)
"""Paths of lists at a user's git hosts."""
GIT_HOST_RECORDS = ("info", "repository/{name:path}/microagents/content")
"""Addresses of single things there."""


def routes(services: Services, administration: Administration) -> list[BaseRoute]:
    """Return the routes in the order of matching."""
    documents = DocumentRoutes(services)
    health = HealthRoutes(services)
    options = OptionRoutes(services)
    settings = SettingsRoutes(services)
    secrets = SecretsRoutes(services)
    conversations = ConversationRoutes(services)
    search = SearchRoutes(services)
    events = EventRoutes(services)
    streams = StreamRoutes(services)
    trajectory = TrajectoryRoutes(services)
    turns = TurnRoutes(services)
    approvals = ApprovalRoutes(services)
    workspace = WorkspaceRoutes(services)
    uploads = UploadRoutes(services)
    files = FileRoutes(services)
    kept_files = WorkspaceFileRoutes(services)
    extras = ExtraRoutes(services)
    git_hosts = GitHostRoutes(services)
    one = "/api/conversations/{conversation_id}"
    table: list[BaseRoute] = [
        resource("/openapi.json", GET=documents.openapi),
        resource("/asyncapi.json", GET=documents.asyncapi),
        resource("/docs", GET=documents.page),
        resource("/docs/{path:path}", GET=documents.part),
        resource("/alive", GET=health.alive),
        resource("/health", GET=health.health),
        resource("/ready", GET=health.ready),
        resource("/server_info", GET=health.server_info),
        resource("/api/options/config", GET=options.config),
        resource("/api/options/models", GET=options.models),
        resource("/api/options/agents", GET=options.agents),
        resource("/api/options/examples", GET=options.examples),
        resource("/api/options/security-analyzers", GET=options.security_analyzers),
        resource("/api/settings", GET=settings.read, POST=settings.store),
        resource("/api/settings/try-model", POST=settings.try_model),
        resource("/api/reset-settings", POST=settings.reset),
        resource("/api/secrets", GET=secrets.search, POST=secrets.create),
        resource("/api/secrets/{name}", PUT=secrets.change, DELETE=secrets.delete),
        resource("/api/add-git-providers", POST=secrets.add_providers),
        resource("/api/unset-provider-tokens", POST=secrets.unset_providers),
        resource("/api/conversations", GET=conversations.search, POST=conversations.create),
        resource("/api/search", GET=search.find),
        resource("/api/microagent-management/conversations", GET=conversations.of_microagents),
        resource(
            one, GET=conversations.show, PATCH=conversations.rename, DELETE=conversations.delete
        ),
        resource(f"{one}/start", POST=conversations.start),
        resource(f"{one}/stop", POST=conversations.stop),
        resource(f"{one}/turns", GET=turns.search, POST=turns.begin),
        resource(f"{one}/stop-turn", POST=turns.stop),
        resource(f"{one}/approvals", GET=approvals.search),
        resource(f"{one}/approvals/{{approval}}", POST=approvals.decide),
        resource(f"{one}/approvals/{{approval}}/renew", POST=approvals.renew),
        resource(f"{one}/approvals/allowed/{{kind}}", DELETE=approvals.revoke),
        resource(f"{one}/events", GET=events.search, POST=events.append),
        resource(f"{one}/stream", GET=streams.follow),
        resource(f"{one}/message", POST=events.say),
        resource(f"{one}/trajectory", GET=trajectory.export),
        resource(f"{one}/config", GET=workspace.config),
        resource(f"{one}/vscode-url", GET=workspace.vscode_url),
        resource(f"{one}/web-hosts", GET=workspace.web_hosts),
        resource(f"{one}/git/changes", GET=workspace.git_changes),
        resource(f"{one}/git/diff", GET=workspace.git_diff),
        resource(f"{one}/microagents", GET=workspace.microagents),
        resource(f"{one}/upload-files", POST=uploads.upload),
        resource(f"{one}/list-files", GET=files.names),
        resource(f"{one}/select-file", GET=files.read),
        resource(f"{one}/zip-directory", GET=files.archive),
        resource(f"{one}/workspace", GET=kept_files.folder),
        resource(f"{one}/workspace/preview", GET=kept_files.preview),
        resource(f"{one}/workspace/download", GET=kept_files.download),
        resource(f"{one}/submit-feedback", POST=extras.submit_feedback),
        resource(f"{one}/remember-prompt", GET=extras.remember_prompt),
        resource(f"{one}/exp-config", POST=extras.experiment),
        resource(f"{one}/security/{{path:path}}", GET=extras.security, POST=extras.security),
        *(resource(f"/api/user/{path}", GET=git_hosts.nothing) for path in GIT_HOST_RECORDS),
        resource("/api/user/repository/branches", GET=git_hosts.page_of_branches),
        *(resource(f"/api/user/{path}", GET=git_hosts.empty_list) for path in GIT_HOST_LISTS),
        resource("/api/user/search/branches", GET=git_hosts.branches),
        resource("/api/user/suggested-tasks", GET=git_hosts.suggested_tasks),
    ]
    if services.config.metrics != "off":
        table.append(resource("/metrics", GET=MetricsRoutes(services).read))
    table += admin_routes(services, administration)
    if services.config.serve_frontend:
        admin_page = AdminPageRoutes()
        table.append(resource("/admin", GET=admin_page.index))
        table.append(resource("/admin/assets/{path:path}", GET=admin_page.asset))
    documents.describe(tuple(table))
    table.append(TrailingSlash(table))
    if services.config.serve_frontend:
        table.append(PageRoute("/{path:path}", page_routes(services.config).serve))
    return [*table, NotFoundRoute()]
