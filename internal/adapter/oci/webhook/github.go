package webhook

import (
	"encoding/json"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
)

// pack is a package of GitHub, as far as it is read.
type pack struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Type      string `json:"package_type"`
	Ecosystem string `json:"ecosystem"`
	Updated   string `json:"updated_at"`
	Version   struct {
		Version   string `json:"version"`
		URL       string `json:"package_url"` // a reference, without a scheme
		Created   string `json:"created_at"`
		Container struct {
			Tag struct {
				Name   string `json:"name"`
				Digest string `json:"digest"`
			} `json:"tag"`
		} `json:"container_metadata"`
	} `json:"package_version"`
}

// isGitHub recognises events of packages, and the test that GitHub sends when a
// webhook is made.
func isGitHub(d document) bool {
	return d.has("action") && (d.has("package") || d.has("registry_package")) || d.has("zen", "hook_id")
}

// readGitHub reads the events package and registry_package, which tell the same.
// GitHub tells nothing of what is deleted.
func readGitHub(d document) ([]asset.RegistryChange, error) {
	if action := d.text("action"); action != "published" && action != "updated" {
		return nil, nil
	}
	raw, ok := d["package"]
	if !ok {
		raw = d["registry_package"]
	}
	var p pack
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, err
	}
	isContainer := func(s string) bool { return strings.EqualFold(s, "container") || strings.EqualFold(s, "docker") }
	if !isContainer(p.Type) && !isContainer(p.Ecosystem) {
		return nil, nil
	}
	i := split(p.Version.URL)
	if i.repository == "" {
		i.host, i.repository = "ghcr.io", p.Namespace+"/"+p.Name
	}
	change := asset.RegistryChange{
		// Names of owners have capitals, those of repositories in a registry don't.
		Host: i.host, Repository: strings.ToLower(i.repository), Tag: p.Version.Container.Tag.Name, At: moment(p.Updated),
	}
	if change.Tag == "" {
		change.Tag = i.tag
	}
	for _, digest := range []string{p.Version.Version, p.Version.Container.Tag.Digest} {
		if change.Digest == "" && strings.HasPrefix(digest, "sha256:") {
			change.Digest = digest
		}
	}
	return []asset.RegistryChange{change}, nil
}
