package check

import (
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// imageChecks are checks about how an image wants to be run, and what it is built
// upon; both of Dockerfiles and of images.
func imageChecks() []Check {
	return []Check{
		{ID: "CAST-IMAGE-001", Title: "Image runs as root", Severity: finding.Medium,
			Why:       "Who starts the image without a word has root in it: every escape, mount and capability is worth more to root.",
			Remedy:    "Make a user and end with USER and its number, which ECS and Kubernetes can tell from root.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.1"}, Checkov: []string{"CKV_DOCKER_3", "CKV_DOCKER_8"}},
			find: builds(func(b *blueprint.Build, hits report) {
				switch {
				case b.Windows:
				case b.User.Absent() || b.User.Known() && b.User.V == "":
					// An image that is built upon may have a user of its own.
					h := hit{at: b.At.Head(), evidence: "no USER is set"}
					if b.Origin == blueprint.BuildFile && !b.Base.Absent() {
						h.evidence, h.severity = "no USER is set: it is that of the base, which is root for most", finding.Low
					}
					if !rootless(b.Base) {
						hits(h)
					}
				case b.User.Known() && asset.NamesRoot(b.User.V):
					hits(hit{at: b.User.At, evidence: fmt.Sprintf("USER is %s", b.User.V)})
				}
			})},
		{ID: "CAST-IMAGE-002", Title: "Image is built upon latest, or upon no tag", Severity: finding.Medium,
			Why:       "Each build may be built upon something else, and nobody can tell upon what.",
			Remedy:    "Name a version, and better its digest.",
			Elsewhere: finding.Elsewhere{Checkov: []string{"CKV_DOCKER_7"}},
			find: steps(func(_ *blueprint.Build, s *blueprint.Step, hits report) {
				if tag, ok := floating(s.Image); s.Word == "FROM" && ok {
					hits(hit{at: s.At, subject: s.Image.V, layer: s.Layer, evidence: fmt.Sprintf("%s has %s", s.Image.V, tag)})
				}
			})},
		{ID: "CAST-IMAGE-003", Title: "Base is not pinned by digest", Severity: finding.Negligible,
			Why:    "A tag can be moved to another image; a digest cannot, and tells later what was built upon.",
			Remedy: "Append @sha256:… and let a bot keep it fresh.",
			find: steps(func(b *blueprint.Build, s *blueprint.Step, hits report) {
				if s.Word != "FROM" || b.Origin != blueprint.BuildFile || !s.Image.Known() || s.Image.V == "" || strings.Contains(s.Image.V, "@") {
					return
				}
				if _, ok := floating(s.Image); !ok {
					hits(hit{at: s.At, subject: s.Image.V, evidence: s.Image.V + " has no digest"})
				}
			})},
		{ID: "CAST-IMAGE-008", Title: "No HEALTHCHECK", Severity: finding.Negligible,
			Why:       "An engine cannot tell a hanging container from a working one. ECS heeds the check of the task definition instead.",
			Remedy:    "Add HEALTHCHECK, or healthCheck to the task definition.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.6"}, Checkov: []string{"CKV_DOCKER_2"}},
			find: builds(func(b *blueprint.Build, hits report) {
				if b.Health == blueprint.Absent {
					hits(hit{at: b.At.Head(), evidence: "there is no HEALTHCHECK"})
				}
			})},
		{ID: "CAST-IMAGE-009", Title: "Image exposes a remote shell", Severity: finding.Medium,
			Why:       "A container needs no ssh: it is a second way in with keys of its own that no trail records.",
			Remedy:    "Remove EXPOSE 22 and the server, and use ECS Exec or docker exec.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 5.7"}, Checkov: []string{"CKV_DOCKER_1"}},
			find: builds(func(b *blueprint.Build, hits report) {
				for _, p := range b.Ports {
					if number, _, _ := strings.Cut(p.V, "/"); p.Known() && (number == "22" || number == "23") {
						hits(hit{at: p.At, subject: "port " + number, evidence: "port " + p.V + " is exposed"})
					}
				}
			})},
		{ID: SecretInImage, Title: "Secret is built into the image", Severity: finding.High,
			Why:       "Whoever may pull the image has the secret: ENV, ARG and labels stand in its configuration and history, whatever a later step unsets.",
			Remedy:    "Use RUN --mount=type=secret while building and secrets of the task while running, and change it: it is known.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.10"}},
			find: builds(func(b *blueprint.Build, hits report) {
				for _, v := range b.Env {
					if kind := secretIn(v.Name, v.Value); kind != "" {
						hits(hit{at: v.At, subject: "variable " + v.Name.V, evidence: fmt.Sprintf("variable %s holds %s of %d characters", v.Name.V, kind, len(v.Value.V))})
					}
				}
			})},
	}
}

// rootless says that a base is known to have a user who is not root.
func rootless(base blueprint.Text) bool {
	return base.Is != blueprint.Absent && (strings.Contains(base.V, "nonroot") || strings.Contains(base.V, "unprivileged") || strings.Contains(base.V, "rootless"))
}
