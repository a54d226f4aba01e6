package aws

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// maxMessage bounds a message; SQS permits a mebibyte.
const maxMessage = 1 << 20

// notification is what SNS wraps around an event that goes to a queue by a topic.
type notification struct {
	Type    string `json:"Type"`
	Topic   string `json:"TopicArn"`
	Message string `json:"Message"`
}

// event is what EventBridge sends of Amazon ECR, as far as it is read.
type event struct {
	Kind    string    `json:"detail-type"`
	Source  string    `json:"source"`
	Account string    `json:"account"`
	Region  string    `json:"region"`
	Time    time.Time `json:"time"`
	Detail  struct {
		Result     string `json:"result"`
		Sync       string `json:"sync-status"` // of pull through caches, instead of the result
		Action     string `json:"action-type"`
		Repository string `json:"repository-name"`
		Digest     string `json:"image-digest"`
		Tag        string `json:"image-tag"`
		Artifact   string `json:"artifact-media-type"`
	} `json:"detail"`
}

// parseEvent reads a message of a registry's queue. ok is false for an event of
// ECR that changes no image: a scan, a failure, a signature. Anything else than an
// event of ECR is an error: it isn't ours to take it from the queue.
func parseEvent(body, host string) (_ asset.RegistryChange, ok bool, err error) {
	none := asset.RegistryChange{}
	if len(body) > maxMessage {
		return none, false, fault.New(fault.Invalid, "a message of %d bytes", len(body))
	}
	var n notification
	if err := json.Unmarshal([]byte(body), &n); err != nil {
		return none, false, fmt.Errorf("parse message: %w", err)
	}
	if n.Type == "Notification" && n.Topic != "" {
		body = n.Message
	}
	var e event
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		return none, false, fmt.Errorf("parse event: %w", err)
	}
	if e.Source != "aws.ecr" {
		return none, false, fault.New(fault.Invalid, "an event of %.40q, not of aws.ecr", e.Source)
	}
	d := e.Detail
	change := asset.RegistryChange{
		Repository: d.Repository, Tag: d.Tag, Digest: d.Digest, Deleted: d.Action == "DELETE", At: e.Time,
	}
	switch e.Kind {
	case "ECR Image Action":
		ok = d.Result == "SUCCESS" && (d.Action == "PUSH" || d.Action == "DELETE")
	case "ECR Pull Through Cache Action":
		ok, change.Deleted = d.Sync == "SUCCESS", false
	case "ECR Replication Action":
		ok, change.Deleted = d.Result == "SUCCESS" && d.Action == "REPLICATE", false
	}
	if !ok || asset.IsAttachedTag(d.Tag) || !isImage(d.Artifact) {
		return none, false, nil
	}
	if change.Host, err = hostOf(e.Account, e.Region, host); err != nil {
		return none, false, err
	}
	if !asset.IsRepository(change.Repository) {
		return none, false, fault.New(fault.Invalid, "an event of the repository %.80q", change.Repository)
	}
	if inventory.CheckDigest(change.Digest) != nil {
		change.Digest = ""
	}
	if !asset.IsTag(change.Tag) {
		change.Tag = ""
	}
	return change, true, nil
}

// hostOf returns the host of an account's registry in a region, written as like
// is, which is the host of a registry in the same partition of AWS.
func hostOf(account, region, like string) (string, error) {
	if len(account) != accountDigits || strings.Trim(account, "0123456789") != "" || !isRegion(region) {
		return "", fault.New(fault.Invalid, "an event of account %.40q in region %.40q", account, region)
	}
	if r, ok := parseHost(like); ok && strings.HasPrefix(like, account) && r.region == region {
		return like, nil
	}
	domain := partitions()[0].domain
	name := strings.TrimSuffix(like, ":443")
	for _, p := range partitions() {
		if strings.HasSuffix(name, "."+p.domain) || p.dualStack != "" && strings.HasSuffix(name, "."+p.dualStack) {
			domain = p.domain
		}
	}
	return account + ".dkr.ecr." + region + "." + domain, nil
}
