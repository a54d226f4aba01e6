package asset

import "time"

// RegistryKind says by which means it is asked what a registry holds.
type RegistryKind string

// The kinds of registries.
const (
	RegistryOCI RegistryKind = "oci" // the distribution API: catalogue, tags, manifests
	RegistryECR RegistryKind = "ecr" // Amazon ECR: its own API
)

// Registry is one whose images are watched, as somebody configured it. It holds
// no credentials: those are found where the docker command and the AWS SDK find
// them.
type Registry struct {
	Name string       `json:"name"` // unique; lower case letters, digits and dashes
	Kind RegistryKind `json:"kind"`
	Host string       `json:"host"` // with a port where it has one: registry.example:5000
	// PlainHTTP permits requests without TLS.
	PlainHTTP bool `json:"plain_http,omitempty"`
	// Repositories and Tags are patterns ("shop/*"); one that begins with "!"
	// excludes. The last that matches decides; with none that includes, all are
	// meant. A "*" stands for any characters but "/", "**" for any.
	Repositories []string `json:"repositories,omitempty"`
	Tags         []string `json:"tags,omitempty"`
	// Named are repositories that are watched beside those of the catalogue: many
	// registries show none.
	Named []string `json:"named,omitempty"`
	// Keep bounds the images of each repository to the newest; 0 is all.
	Keep int `json:"keep,omitempty"`
	// MaxAge leaves out images that were pushed, or where the registry does not
	// tell, built, longer ago; 0 is any age.
	MaxAge time.Duration `json:"max_age,omitempty"`
	// Platforms are those of a multi-platform image that are scanned
	// ("linux/arm64"); empty: those that run in the fleet, else linux/amd64.
	Platforms []string `json:"platforms,omitempty"`
	// Every is how often it is asked for news; Rate how many requests a second it
	// is asked at most. 0 is the default of each.
	Every time.Duration `json:"every,omitempty"`
	Rate  float64       `json:"rate,omitempty"`
	// Queue is the URL of an SQS queue to which EventBridge sends the registry's
	// events; only of Amazon ECR.
	Queue string `json:"queue,omitempty"`
}

// RegistryImage is one image, or one index of several platforms, that a
// repository holds.
type RegistryImage struct {
	Repository string    `json:"repository"` // without the registry
	Digest     string    `json:"digest"`     // of the manifest or the index
	Tags       []string  `json:"tags,omitempty"`
	Pushed     time.Time `json:"pushed,omitzero"` // where the registry tells
	Size       int64     `json:"size,omitempty"`  // bytes, where the registry tells
}

// RegistryChange is what a registry told by itself: something of a repository was
// pushed or deleted.
type RegistryChange struct {
	Host       string    `json:"host"`
	Repository string    `json:"repository"`
	Tag        string    `json:"tag,omitempty"`
	Digest     string    `json:"digest,omitempty"`
	Deleted    bool      `json:"deleted,omitempty"`
	At         time.Time `json:"at,omitzero"`
}
