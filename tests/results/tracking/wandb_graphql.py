"""What the stand-in for a W&B server knows, and what it answers the client's GraphQL operations: those of wandb 0.31, no others."""

# ruff: noqa: N802, N815 - operations are named by the client
from __future__ import annotations

import base64
import hashlib
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


def identity(*parts: Any) -> str:
    return base64.b64encode(":".join(map(str, parts)).encode()).decode()


@dataclass
class Run:
    entity: str
    project: str
    name: str
    config: Json = field(default_factory=dict)
    summary: Json = field(default_factory=dict)
    history: list[Json] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    fields: Json = field(default_factory=dict)  # displayName, groupName, jobType, tags
    state: str = "running"
    writes: int = 0

    @property
    def id(self) -> str:
        return identity("Run", "v1", self.name, self.project, self.entity)

    def node(self) -> Json:
        """What `RunFragment` and `RunResumeStatus` ask of a run."""
        tail = json.dumps([json.dumps(self.history[-1])] if self.history else [])
        steps = [row["_step"] for row in self.history]
        project = {"id": self.project, "name": self.project, "entity": {"id": self.entity, "name": self.entity}}
        counts = {"historyLineCount": len(self.history), "historyTail": tail, "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]"}
        keys = {"lastStep": max(steps, default=-1), "keys": {}, "sets": []}
        shown = {"displayName": self.fields.get("displayName", self.name), "tags": self.fields.get("tags", []), "notes": None}
        who = {"group": self.fields.get("groupName"), "jobType": self.fields.get("jobType"), "sweepName": None, "description": None}
        content = {
            "config": json.dumps(self.config),
            "summaryMetrics": json.dumps(self.summary),
            "systemMetrics": "{}",
            "historyKeys": keys,
        }
        rest = {"state": self.state, "readOnly": False, "commit": None, "user": {"name": "t", "username": "t"}, "projectId": "7"}
        when = {"wandbConfig": json.dumps({"t": 1}), "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00"}
        return {"id": self.id, "name": self.name, "project": project, **counts, **shown, **who, **content, **rest, **when}


@dataclass
class Artifact:
    given: Json
    id: str
    version: int | None = None  # once it is committed
    manifest_id: str = ""
    base: str | None = None  # what an incremental one adds to
    manifest: Json = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.given["artifactCollectionName"])


class Answers:
    """What is held, and the answers that come from it: `_on_X` answers the operation X."""

    def __init__(self, entity: str) -> None:
        self.entity, self.port = entity, 0
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.blobs: dict[str, bytes] = {}
        self.views: dict[str, Json] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- GraphQL: what the client asks first
    def _on_Viewer(self, v: Json) -> Json:
        teams = {"edges": [{"node": {"name": self.entity}}]}
        keys = {"edges": []}
        return {"viewer": {"id": "1", "entity": self.entity, "username": "t", "email": "", "flags": "{}", "teams": teams, "apiKeys": keys}}

    def _on_ServerFeaturesQuery(self, v: Json) -> Json:
        return {"serverInfo": {"features": []}}

    def _on_GetDefaultEntity(self, v: Json) -> Json:
        return {"viewer": {"id": "1", "entity": self.entity}}

    def _on_OrganizationCoreWeaveOrganizationID(self, v: Json) -> Json:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _on_RunStoppedStatus(self, v: Json) -> Json:
        return {"project": {"run": {"stopped": False}}}

    # --- GraphQL: runs
    def _on_RunResumeStatus(self, v: Json) -> Json:
        run = self.runs.get(v["name"])
        project = {"id": v["project"], "name": v["project"], "entity": {"id": self.entity, "name": self.entity}}
        return {"model": {**project, "bucket": run.node() if run else None}}

    def _on_UpsertBucket(self, v: Json) -> Json:
        name = v.get("name")
        run = next(one for one in self.runs.values() if one.id == v["id"]) if not name else self.runs.get(name)
        new = run is None
        if run is None:
            run = self.runs[str(name)] = Run(v.get("entity") or self.entity, v.get("project") or "uncategorized", str(name))
        if name:
            run.state, run.writes = "running", run.writes + 1
        given = {"displayName": v.get("display_name"), **v}
        run.fields.update({k: given[k] for k in ("displayName", "groupName", "jobType", "tags") if given.get(k)})
        run.config.update(json.loads(v.get("config") or "{}"))
        run.summary.update(json.loads(v.get("summaryMetrics") or "{}"))
        return {"upsertBucket": {"bucket": run.node(), "inserted": new}}

    def _on_Run(self, v: Json) -> Json:
        run = self.runs.get(v["name"])
        return {"project": {"run": run.node() if run else None}}

    def _on_Runs(self, v: Json) -> Json:
        wanted = json.loads(v.get("filters") or "{}")
        runs = [one for one in self.runs.values() if all(one.node().get(k) == wanted[k] for k in wanted)]
        if not self.runs:
            return {"project": None}
        start, size = int(v.get("cursor") or 0), v.get("perPage") or 50
        edges = [{"node": run.node(), "cursor": str(start + n + 1)} for n, run in enumerate(runs[start : start + size])]
        more = {"endCursor": str(start + size), "hasNextPage": start + size < len(runs)}
        return {"project": {"internalId": "7", "readOnly": False, "runCount": len(runs), "runs": {"edges": edges, "pageInfo": more}}}

    _on_RunHistoryKeys = _on_Run

    def _on_RunParquetHistory(self, v: Json) -> Json:
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": []}}}}

    def _on_HistoryPage(self, v: Json) -> Json:
        rows = [json.dumps(row) for row in self.runs[v["run"]].history if v["minStep"] <= row["_step"] < v["maxStep"]]
        return {"project": {"run": {"history": rows}}}

    def _on_CreateRunFiles(self, v: Json) -> Json:
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/run/{v['run']}/{name}"} for name in v["files"]]
        return {"createRunFiles": {"runID": v["run"], "uploadHeaders": [], "files": files}}

    def _on_RunFiles(self, v: Json) -> Json:
        run, names = self.runs[v["name"]], v.get("fileNames")
        nodes = []
        for name, blob in run.files.items():
            if not names or name in names:
                url = f"{self.url}/storage/run/{run.name}/{name}"
                size = {"sizeBytes": len(blob), "md5": base64.b64encode(hashlib.md5(blob).digest()).decode()}
                nodes.append({"id": name, "name": name, "url": url, "directUrl": url, "mimetype": "", "updatedAt": None, **size})
        page = {"edges": [{"node": node, "cursor": node["name"]} for node in nodes], "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "7", "run": {"fileCount": len(nodes), "files": page}}}

    # --- GraphQL: artifacts
    def _on_ArtifactType(self, v: Json) -> Json:
        return {"project": {"artifact": None}}

    def _on_CreateArtifact(self, v: Json) -> Json:
        made = Artifact(v, identity("Artifact", uuid.uuid4().hex))
        latest = next((one for one in reversed(self.artifacts.values()) if one.name == made.name and one.version is not None), None)
        self.artifacts[made.id] = made
        before = {"latestArtifact": {"id": latest.id} if latest else None}
        return {"createArtifact": {"artifact": {"id": made.id, "state": "PENDING", "artifactSequence": before}}}

    def _on_CreateArtifactManifest(self, v: Json) -> Json:
        artifact = self.artifacts[v["artifactID"]]
        artifact.manifest_id = artifact.manifest_id or identity("Manifest", uuid.uuid4().hex)
        artifact.base = v.get("baseArtifactID") if v.get("manifestType") == "INCREMENTAL" else None
        return {"createArtifactManifest": {"artifactManifest": self._manifest(artifact)}}

    def _on_UpdateArtifactManifest(self, v: Json) -> Json:
        artifact = next(one for one in self.artifacts.values() if one.manifest_id == v["artifactManifestID"])
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(artifact)}}

    def _manifest(self, artifact: Artifact) -> Json:
        file = {"id": artifact.manifest_id, "uploadUrl": f"{self.url}/storage/manifest/{artifact.manifest_id}", "uploadHeaders": []}
        return {"id": artifact.manifest_id, "file": file}

    def _on_CreateArtifactFiles(self, v: Json) -> Json:
        edges = []
        for file in v["artifactFiles"]:
            path = f"storage/artifact/{file['artifactID']}/{file['name']}"
            node = {"storagePath": path, "uploadUrl": f"{self.url}/{path}", "uploadHeaders": [], "uploadMultipartUrls": None}
            edges.append({"node": {**node, "artifact": {"id": file["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, v: Json) -> Json:
        artifact = self.artifacts[v["artifactID"]]
        before = [one for one in self.artifacts.values() if one.name == artifact.name and one.version is not None]
        artifact.version = len(before)
        artifact.manifest = json.loads(self.blobs[f"/storage/manifest/{artifact.manifest_id}"])
        if artifact.base:
            artifact.manifest["contents"] = {**self.artifacts[artifact.base].manifest["contents"], **artifact.manifest["contents"]}
        self.blobs[f"/storage/whole/{artifact.manifest_id}"] = json.dumps(artifact.manifest).encode()
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.given["digest"]}}}

    def _on_RunOutputArtifacts(self, v: Json) -> Json:
        committed = [one for one in self.artifacts.values() if one.version is not None and one.given.get("runName") == v["run"]]
        nodes = [{"node": self._artifact(one, v), "cursor": one.id} for one in committed]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"project": {"run": {"artifacts": {"totalCount": len(nodes), "pageInfo": page, "edges": nodes}}}}

    def _artifact(self, artifact: Artifact, v: Json) -> Json:
        project = {"id": "7", "internalId": "7", "name": v["project"], "entity": {"name": v["entity"]}}
        sequence = {"__typename": "ArtifactSequence", "id": artifact.name, "name": artifact.name, "project": project}
        given = {"digest": artifact.given["digest"], "metadata": None, "description": None, "commitHash": None}
        size = {"size": 1, "fileCount": len(artifact.manifest["contents"]), "state": "COMMITTED", "versionIndex": artifact.version}
        when = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z", "historyStep": None}
        kind = {"artifactType": {"name": artifact.given["artifactTypeName"]}}
        rest = {"ttlDurationSeconds": -2, "ttlIsInherited": True, "tags": [], "aliases": [], **kind}
        return {"__typename": "Artifact", "id": artifact.id, "artifactSequence": sequence, **given, **size, **when, **rest}

    def _on_FetchArtifactManifest(self, v: Json) -> Json:
        artifact = self.artifacts[v["id"]]
        return {"artifact": {"currentManifest": {"file": {"directUrl": f"{self.url}/storage/whole/{artifact.manifest_id}"}}}}

    # --- GraphQL: saved views
    def _on_UpsertView2(self, v: Json) -> Json:
        made = v.get("id") or identity("View", v["name"])
        new = made not in self.views
        self.views[made] = {**v, "spec": json.loads(v["spec"])}
        return {"upsertView": {"view": {"id": made, "name": v["name"], "type": v.get("type")}, "inserted": new}}
