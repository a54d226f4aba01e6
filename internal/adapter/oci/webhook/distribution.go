package webhook

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
)

// target is what an event of CNCF distribution is about. Azure's events are made
// of the same parts.
type target struct {
	MediaType  string `json:"mediaType"`
	Digest     string `json:"digest"`
	Repository string `json:"repository"`
	URL        string `json:"url"`
	Tag        string `json:"tag"`
}

// happening is one event.
type happening struct {
	Time    string `json:"timestamp"`
	Action  string `json:"action"`
	Target  target `json:"target"`
	Request struct {
		Host string `json:"host"`
	} `json:"request"`
}

// changes returns what an event says has changed; nothing for events of blobs, of
// other artifacts and of pulls.
func (h happening) changes() []asset.RegistryChange {
	deleted := h.Action == "delete"
	if h.Action != "push" && !deleted {
		return nil
	}
	if h.Target.MediaType != "" && !isManifest(h.Target.MediaType) || strings.Contains(h.Target.URL, "/blobs/") {
		return nil
	}
	return []asset.RegistryChange{{
		Host: h.Request.Host, Repository: h.Target.Repository, Tag: h.Target.Tag, Digest: h.Target.Digest,
		Deleted: deleted, At: moment(h.Time),
	}}
}

// isManifest says whether a media type is of an image or an index.
func isManifest(t string) bool {
	switch t {
	case "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
		"application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws":
		return true
	}
	return false
}

func isDistribution(d document) bool { return d.has("events") }

func readDistribution(d document) ([]asset.RegistryChange, error) {
	var events []happening
	if err := json.Unmarshal(d["events"], &events); err != nil {
		return nil, err
	}
	if events == nil {
		return nil, errors.New("it has no list of events")
	}
	var all []asset.RegistryChange
	for _, e := range events {
		all = append(all, e.changes()...)
	}
	return all, nil
}

// isAzure recognises a single event, or the test that Azure sends when a webhook
// is made.
func isAzure(d document) bool {
	return d.has("id", "timestamp", "action") && (d.has("target", "request") || d.text("action") == "ping")
}

func readAzure(d document) ([]asset.RegistryChange, error) {
	h := happening{Action: d.text("action"), Time: d.text("timestamp")}
	for name, into := range map[string]any{"target": &h.Target, "request": &h.Request} {
		if d.has(name) {
			if err := json.Unmarshal(d[name], into); err != nil {
				return nil, err
			}
		}
	}
	return h.changes(), nil
}
