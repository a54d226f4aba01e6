package oci

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/signature"
)

// Media types of signatures and attestations, of their makers' specifications.
const (
	typeBundle        = "application/vnd.dev.sigstore.bundle" // with the version and +json after it, in one of two ways
	typeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeDSSE          = "application/vnd.dsse.envelope.v1+json"
	typeJWS           = "application/jose+json"
	typeCOSE          = "application/cose"

	// typeNotary is what the Notary Project calls its artifacts and their
	// configuration.
	typeNotary = "application/vnd.cncf.notary.signature"
)

// Words of cosign in the index of a layout that it saved.
const (
	annotationKind = "kind"
	cosignSigs     = "dev.cosignproject.cosign/sigs"
	cosignAtts     = "dev.cosignproject.cosign/atts"
)

// Endings of the tags that cosign wrote before there were referrers.
const (
	suffixSignatures   = ".sig"
	suffixAttestations = ".att"
)

// isEnvelope says whether a blob of that type is one of the kinds that are
// known.
func isEnvelope(mediaType string) bool {
	switch t := mediaTypeOf(mediaType); t {
	case typeSimpleSigning, typeDSSE, typeJWS, typeCOSE:
		return true
	default:
		return strings.HasPrefix(t, typeBundle) && strings.HasSuffix(t, "+json")
	}
}

// promises says how likely an artifact of that type is to be an envelope: 2 for
// the types of our kinds, 1 for what tells nothing, 0 for another type. It
// decides only on the order: registries are known to report a wrong type.
func promises(artifactType string) int {
	switch t := mediaTypeOf(artifactType); {
	case isEnvelope(t), t == typeNotary, strings.HasPrefix(t, "application/vnd.dev.cosign."), strings.HasPrefix(t, "application/vnd.in-toto"):
		return 2
	case t == "", t == typeEmpty, isImageConfig(t):
		return 1
	}
	return 0
}

// referrersTag is the tag that stands in for the list of a manifest's referrers
// where a registry has no such lists (OCI distribution specification 1.1,
// referrers tag schema); cosign's older tags are that with an ending.
func referrersTag(digest string) string {
	const longest = 64 // of the digits, so that a tag of a longer digest is one
	algorithm, hex, _ := strings.Cut(digest, ":")
	return algorithm + "-" + hex[:min(len(hex), longest)]
}

// fullDescriptor is a descriptor with all that it may carry.
type fullDescriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Data         []byte            `json:"data,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *platform         `json:"platform,omitempty"`
}

// brief is the descriptor without what it carries.
func (d fullDescriptor) brief() descriptor {
	return descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// attachment is a manifest that is about another.
type attachment struct {
	artifactType string
	config       fullDescriptor
	subject      *fullDescriptor
	layers       []fullDescriptor
	annotations  map[string]string
}

// parseAttachment reads a manifest that may hold envelopes. One of another kind
// than an image manifest has no layers.
func parseAttachment(b []byte) (*attachment, error) {
	var schema, artifactType, config, layers, subject, annotations, manifests json.RawMessage
	if _, err := members(b, map[string]*json.RawMessage{
		"schemaVersion": &schema, "artifactType": &artifactType, "config": &config, "layers": &layers,
		"subject": &subject, "annotations": &annotations, "manifests": &manifests,
	}); err != nil {
		return nil, err
	}
	a := &attachment{}
	if string(schema) != "2" || !isNull(manifests) {
		return a, nil
	}
	for _, m := range []struct {
		name string
		raw  json.RawMessage
		to   any
	}{{"artifact type", artifactType, &a.artifactType}, {"configuration", config, &a.config}, {"subject", subject, &a.subject}} {
		if isNull(m.raw) {
			continue
		}
		if err := json.Unmarshal(m.raw, m.to); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	var err error
	if a.annotations, err = table[string](annotations, maxWords, "annotations"); err != nil {
		return nil, err
	}
	if a.layers, err = list[fullDescriptor](layers, maxLayers, "layers"); err != nil {
		return nil, err
	}
	return a, nil
}

// kind is what the manifest says that it is.
func (a *attachment) kind() string { return cmp.Or(a.artifactType, a.config.MediaType) }

// envelopes are the layers of the kinds that are known.
func (a *attachment) envelopes() []fullDescriptor {
	var some []fullDescriptor
	for _, l := range a.layers {
		if isEnvelope(l.MediaType) {
			some = append(some, l)
		}
	}
	return some
}

// about refuses a manifest that is about something else than the subject. Old
// manifests, which cosign's tags name, say nothing of a subject.
func (a *attachment) about(digest string, s signature.Subject, must bool) error {
	switch {
	case a.subject == nil && must:
		return signature.Refuse(signature.OtherSubject, "manifest %s is listed as a referrer of %s and names no subject", short(digest), short(s.Digest))
	case a.subject != nil && a.subject.Digest != s.Digest:
		return signature.Refuse(signature.OtherSubject, "manifest %s is listed as a referrer of %s and is about %s", short(digest), short(s.Digest), shown(a.subject.Digest))
	}
	return nil
}

// parseReferrers reads a list of referrers: an index. wrong has the errors of
// entries that cannot be followed, of the first few.
func parseReferrers(b []byte) (entries []fullDescriptor, wrong []error, err error) {
	var schema, mediaType, manifests, config, layers json.RawMessage
	if _, err := members(b, map[string]*json.RawMessage{
		"schemaVersion": &schema, "mediaType": &mediaType, "manifests": &manifests, "config": &config, "layers": &layers,
	}); err != nil {
		return nil, nil, err
	}
	if string(schema) != "2" || manifests == nil || !isNull(config) || !isNull(layers) {
		return nil, nil, fmt.Errorf("it is no index")
	}
	raw, err := list[json.RawMessage](manifests, maxListing, "manifests") // as many as a page has bytes: the caller counts
	if err != nil {
		return nil, nil, err
	}
	for i, one := range raw {
		var d fullDescriptor
		err := json.Unmarshal(one, &d)
		if err == nil {
			err = d.brief().check("referrer")
		}
		if err != nil {
			if len(wrong) <= maxLeft {
				wrong = append(wrong, signature.Refuse(signature.Malformed, "entry %d of the list of referrers: %v", i+1, err))
			}
			continue
		}
		entries = append(entries, d)
	}
	return entries, wrong, nil
}
