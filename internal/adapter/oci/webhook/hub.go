package webhook

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
)

func isDockerHub(d document) bool { return d.has("push_data", "repository") }

// readDockerHub reads a push. Docker Hub tells no digest, and nothing of what is
// deleted.
func readDockerHub(d document) ([]asset.RegistryChange, error) {
	var push struct {
		At  float64 `json:"pushed_at"`
		Tag string  `json:"tag"`
	}
	var repository struct {
		Name string `json:"repo_name"`
	}
	if err := json.Unmarshal(d["push_data"], &push); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(d["repository"], &repository); err != nil {
		return nil, err
	}
	return []asset.RegistryChange{{Host: "docker.io", Repository: repository.Name, Tag: push.Tag, At: unix(push.At)}}, nil
}

// isQuay recognises all that Quay sends of a repository: vulnerabilities and
// builds come to the same address.
func isQuay(d document) bool { return d.has("docker_url", "repository", "namespace") }

// readQuay reads a push: a list of tags, or in older versions a table of the
// images that they name. Quay tells no digest, and nothing of what is deleted.
func readQuay(d document) ([]asset.RegistryChange, error) {
	if !d.has("updated_tags") {
		return nil, nil
	}
	var tags []string
	if strings.HasPrefix(strings.TrimSpace(string(d["updated_tags"])), "{") {
		var table map[string]json.RawMessage
		if err := json.Unmarshal(d["updated_tags"], &table); err != nil {
			return nil, err
		}
		for tag := range table {
			tags = append(tags, tag)
		}
		slices.Sort(tags)
	} else if err := json.Unmarshal(d["updated_tags"], &tags); err != nil {
		return nil, err
	}
	var all []asset.RegistryChange
	for _, tag := range tags {
		all = append(all, asset.RegistryChange{Host: split(d.text("docker_url")).host, Repository: d.text("repository"), Tag: tag})
	}
	return all, nil
}

// isGoogle recognises a message that Pub/Sub pushes.
func isGoogle(d document) bool { return d.has("message", "subscription") }

// readGoogle reads a message of the topic gcr, of Artifact Registry.
func readGoogle(d document) ([]asset.RegistryChange, error) {
	var message struct {
		Data        []byte `json:"data"` // in base64
		PublishTime string `json:"publishTime"`
	}
	if err := json.Unmarshal(d["message"], &message); err != nil {
		return nil, err
	}
	var event struct {
		Action string `json:"action"`
		Digest string `json:"digest"` // a reference by its digest
		Tag    string `json:"tag"`    // a reference by its tag
	}
	if err := json.Unmarshal(message.Data, &event); err != nil {
		return nil, err
	}
	if event.Action != "INSERT" && event.Action != "DELETE" {
		return nil, nil
	}
	of, tagged := split(event.Digest), split(event.Tag)
	if of.repository == "" {
		of = tagged
	}
	return []asset.RegistryChange{{
		Host: of.host, Repository: of.repository, Tag: tagged.tag, Digest: of.digest,
		Deleted: event.Action == "DELETE", At: moment(message.PublishTime),
	}}, nil
}

func isArtifactory(d document) bool { return d.has("domain", "event_type", "data") }

// readArtifactory reads an event of the domain docker. Where it is told by which
// address Artifactory is reached, repositories are taken to be below their key, as
// they are by default.
func readArtifactory(d document) ([]asset.RegistryChange, error) {
	deleted := d.text("event_type") == "deleted"
	if d.text("domain") != "docker" || d.text("event_type") != "pushed" && !deleted {
		return nil, nil
	}
	var data struct {
		Key    string `json:"repo_key"`
		Image  string `json:"image_name"`
		Tag    string `json:"tag"`
		SHA256 string `json:"sha256"`
	}
	if err := json.Unmarshal(d["data"], &data); err != nil {
		return nil, err
	}
	host := ""
	if u, err := url.Parse(d.text("jpd_origin")); err == nil {
		host = u.Host
	}
	change := asset.RegistryChange{Host: host, Repository: data.Key + "/" + data.Image, Tag: data.Tag, Deleted: deleted}
	if data.SHA256 != "" {
		change.Digest = "sha256:" + data.SHA256
	}
	return []asset.RegistryChange{change}, nil
}
