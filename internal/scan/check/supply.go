package check

import (
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// supplies are checks about where images come from.
func supplies() []Check {
	return []Check{
		{ID: "CAST-TASK-019", Title: "Image is named by latest, or by no tag", Severity: finding.Medium,
			Why:       "What runs then is decided by whoever pushed last, differs between instances, and cannot be rolled back to.",
			Remedy:    "Name a version, and better its digest.",
			Elsewhere: finding.Elsewhere{},
			find: containers(func(_ *blueprint.Task, c *blueprint.Container, hits report) {
				if c.Built {
					return
				}
				if tag, ok := floating(c.Image); ok {
					hits(hit{at: c.Image.At, subject: c.Image.V, evidence: fmt.Sprintf("image %s has %s", c.Image.V, tag)})
				}
			})},
		{ID: "CAST-TASK-020", Title: "Image is not pinned by digest", Severity: finding.Negligible,
			Why:    "A tag can be moved to another image, in the registry or by who holds its credentials; a digest cannot.",
			Remedy: "Append @sha256:… to the image, or let the pipeline resolve the tag when it deploys.",
			find: containers(func(t *blueprint.Task, c *blueprint.Container, hits report) {
				if t.Origin != blueprint.ECS || !c.Image.Known() || c.Image.V == "" || strings.Contains(c.Image.V, "@sha256:") {
					return
				}
				if _, ok := floating(c.Image); !ok {
					hits(hit{at: c.Image.At, subject: c.Image.V, evidence: fmt.Sprintf("image %s has no digest", c.Image.V)})
				}
			})},
	}
}

// floating says that an image is named by what moves with each push. Of a name
// that is not wholly known the end may be.
func floating(image blueprint.Text) (tag string, ok bool) {
	name := strings.TrimSpace(image.V)
	if image.Absent() || name == "" || strings.Contains(name, "@") {
		return "", false
	}
	last := name[strings.LastIndexByte(name, '/')+1:]
	if image.Is == blueprint.Unknown {
		// Only a tag that is written out is known: ${…}/app:latest.
		at := strings.LastIndexByte(last, '}')
		return "the tag latest", strings.HasSuffix(last[at+1:], ":latest")
	}
	_, tag, tagged := strings.Cut(last, ":")
	switch {
	case !tagged:
		return "no tag", true
	case tag == "latest":
		return "the tag latest", true
	}
	return "", false
}
