package inventory

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Image is an image of one platform, as its manifest and configuration describe
// it (OCI image specification 1.1).
type Image struct {
	// Reference is what the user named; Digest the manifest's, when there is a
	// manifest (an engine's archive may have none); ID that of the configuration.
	Reference string    `json:"reference,omitempty"`
	Digest    string    `json:"digest,omitempty"`
	ID        string    `json:"id,omitempty"`
	Platform  Platform  `json:"platform,omitzero"`
	Created   time.Time `json:"created,omitzero"`
	Config    Config    `json:"config,omitzero"`
	// Layers are from the base up; empty ones of the history are not among
	// them.
	Layers []Layer `json:"layers"`
	// History are all steps of the build, as far as the image tells them.
	History []Step `json:"history,omitempty"`
}

// Platform is what an image runs on.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
	OSVersion    string `json:"os_version,omitempty"`
}

// String returns the platform as image tools write it: linux/arm64/v8.
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Config is how an image wants to be run.
type Config struct {
	User         string            `json:"user,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	Env          []string          `json:"env,omitempty"`
	WorkingDir   string            `json:"working_dir,omitempty"`
	ExposedPorts []string          `json:"exposed_ports,omitempty"`
	Volumes      []string          `json:"volumes,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Healthcheck  []string          `json:"healthcheck,omitempty"`
}

// Layer is one layer of an image.
type Layer struct {
	// Digest is of the layer as it is stored or sent, DiffID of its tar;
	// they are the same for one that is not compressed. Either may be empty
	// where a source doesn't tell it.
	Digest string `json:"digest,omitempty"`
	DiffID string `json:"diff_id,omitempty"`
	// MediaType says how it is compressed; readers decide by its first bytes.
	MediaType string `json:"media_type,omitempty"`
	Size      int64  `json:"size,omitempty"` // bytes as stored; 0 unknown
	// Instruction is the build step that made it, from the image's history.
	Instruction string `json:"instruction,omitempty"`
	// Missing says, in words, why its content may not be had where the image came
	// from: a layer that only its publisher may distribute. After a scan it is set
	// only where that was so, and what is inside is unknown. Empty for every other
	// layer, which must be there.
	Missing string `json:"missing,omitempty"`
}

// Step is one step of an image's history.
type Step struct {
	Created     time.Time `json:"created,omitzero"`
	Instruction string    `json:"instruction,omitempty"`
	Author      string    `json:"author,omitempty"`
	Comment     string    `json:"comment,omitempty"`
	Empty       bool      `json:"empty,omitempty"` // it made no layer
}

// Instruction returns a step as its Dockerfile had it: without the shell that
// runs it and the words by which builders mark a step that made no layer.
func Instruction(createdBy string) string {
	s := strings.TrimSpace(createdBy)
	s = strings.TrimSpace(strings.TrimSuffix(s, "# buildkit"))
	const shell, mark = "/bin/sh -c ", "#(nop)"
	if rest, ok := strings.CutPrefix(s, shell); ok {
		rest = strings.TrimSpace(rest)
		if step, ok := strings.CutPrefix(rest, mark); ok {
			return strings.TrimSpace(step)
		}
		return "RUN " + rest
	}
	if rest, ok := strings.CutPrefix(s, "RUN "+shell); ok {
		return "RUN " + strings.TrimSpace(rest)
	}
	return s
}

// ExplainLayers gives each layer that has no instruction the step of the history
// that made it. A history that tells of another number of layers than there are
// explains nothing: a guess would blame the wrong line.
func (i *Image) ExplainLayers() {
	var made []string
	for _, s := range i.History {
		if !s.Empty {
			made = append(made, s.Instruction)
		}
	}
	if len(made) != len(i.Layers) {
		return
	}
	for n := range i.Layers {
		if i.Layers[n].Instruction == "" {
			i.Layers[n].Instruction = made[n]
		}
	}
}

// CheckDigest returns an error unless d is a digest that this program can
// verify: sha256 or sha512 with all its lower-case hex digits. Only then may it
// become part of a path or a key.
func CheckDigest(d string) error {
	algorithm, digits, _ := strings.Cut(d, ":")
	size := map[string]int{"sha256": 32, "sha512": 64}[algorithm]
	if size == 0 {
		return fmt.Errorf("digest %.40q: want sha256 or sha512 before a colon", d)
	}
	if len(digits) != size*2 || strings.ToLower(digits) != digits {
		return fmt.Errorf("digest %.140q: want %d lower-case hex digits", d, size*2)
	}
	if _, err := hex.DecodeString(digits); err != nil {
		return fmt.Errorf("digest %.140q: %w", d, err)
	}
	return nil
}
