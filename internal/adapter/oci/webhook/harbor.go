package webhook

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

// artifacts is what an event of Harbor is about.
type artifacts struct {
	Resources []struct {
		Digest string `json:"digest"`
		Tag    string `json:"tag"`
		URL    string `json:"resource_url"` // a reference, without a scheme
	} `json:"resources"`
	Repository struct {
		FullName  string `json:"repo_full_name"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"repository"`
}

// changes returns one change for each artifact. Harbor writes the digest where an
// artifact has no tag.
func (a artifacts) changes(deleted bool, at time.Time) []asset.RegistryChange {
	repository := a.Repository.FullName
	if repository == "" {
		repository = a.Repository.Namespace + "/" + a.Repository.Name
	}
	var all []asset.RegistryChange
	for _, r := range a.Resources {
		tag := r.Tag
		if strings.Contains(tag, ":") {
			tag = ""
		}
		all = append(all, asset.RegistryChange{
			Host: split(r.URL).host, Repository: repository, Tag: tag, Digest: r.Digest, Deleted: deleted, At: at,
		})
	}
	return all
}

func isHarbor(d document) bool { return d.has("type", "occur_at", "event_data") }

func readHarbor(d document) ([]asset.RegistryChange, error) {
	deleted := d.text("type") == "DELETE_ARTIFACT"
	if d.text("type") != "PUSH_ARTIFACT" && !deleted {
		return nil, nil
	}
	var a artifacts
	if err := json.Unmarshal(d["event_data"], &a); err != nil {
		return nil, err
	}
	var at float64
	if err := json.Unmarshal(d["occur_at"], &at); err != nil {
		return nil, err
	}
	return a.changes(deleted, unix(at)), nil
}

func isHarborCloudEvent(d document) bool {
	return d.has("specversion", "data") && strings.HasPrefix(d.text("type"), "harbor.")
}

func readHarborCloudEvent(d document) ([]asset.RegistryChange, error) {
	deleted := d.text("type") == "harbor.artifact.deleted"
	if d.text("type") != "harbor.artifact.pushed" && !deleted {
		return nil, nil
	}
	var a artifacts
	if err := json.Unmarshal(d["data"], &a); err != nil {
		return nil, err
	}
	return a.changes(deleted, moment(d.text("time"))), nil
}
