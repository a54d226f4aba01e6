package oci

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
)

// configuration is what is read of an image's configuration.
type configuration struct {
	platform platform
	created  time.Time
	config   inventory.Config
	diffIDs  []string
	history  []inventory.Step
}

// parseConfig reads an image's configuration, and nothing of a container's that
// a `docker commit` may have left in it.
func parseConfig(b []byte) (*configuration, error) {
	var created, config, rootfs, history, arch, os, variant, osVersion json.RawMessage
	if _, err := members(b, map[string]*json.RawMessage{
		"created": &created, "config": &config, "rootfs": &rootfs, "history": &history,
		"architecture": &arch, "os": &os, "variant": &variant, "os.version": &osVersion,
	}); err != nil {
		return nil, err
	}
	c := &configuration{created: instant(created)}
	for raw, to := range map[*json.RawMessage]*string{
		&arch: &c.platform.Architecture, &os: &c.platform.OS, &variant: &c.platform.Variant, &osVersion: &c.platform.OSVersion,
	} {
		if !isNull(*raw) {
			if err := json.Unmarshal(*raw, to); err != nil {
				return nil, fmt.Errorf("platform: %w", err)
			}
		}
	}
	var err error
	if c.diffIDs, err = parseRootFS(rootfs); err != nil {
		return nil, err
	}
	if c.config, err = parseRunConfig(config); err != nil {
		return nil, err
	}
	if c.history, err = parseHistory(history); err != nil {
		return nil, err
	}
	return c, nil
}

// parseRootFS returns the digests of the layers' tar archives.
func parseRootFS(raw json.RawMessage) ([]string, error) {
	if isNull(raw) {
		return nil, fmt.Errorf("no rootfs in it: not an image's configuration")
	}
	var kind, diffIDs json.RawMessage
	if _, err := members(raw, map[string]*json.RawMessage{"type": &kind, "diff_ids": &diffIDs}); err != nil {
		return nil, fmt.Errorf("rootfs: %w", err)
	}
	if k := string(kind); k != `"layers"` && k != "" {
		return nil, fmt.Errorf("rootfs of type %s, and \"layers\" is known", shown(k))
	}
	ids, err := list[string](diffIDs, maxLayers, "layers")
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		if err := checkDigest(id, fmt.Sprintf("diff_id of layer %d", i+1)); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// words is a list of arguments, which the oldest images have as one text.
type words []string

// UnmarshalJSON reads a list or one text.
func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		if !isNull(b) {
			*w = words{one}
		}
		return nil
	}
	all, err := list[string](b, maxWords, "words")
	*w = all
	return err
}

// parseRunConfig reads how the image wants to be run.
func parseRunConfig(raw json.RawMessage) (inventory.Config, error) {
	if isNull(raw) {
		return inventory.Config{}, nil
	}
	var said struct {
		User         string
		Entrypoint   words
		Cmd          words
		Env          words
		WorkingDir   string
		ExposedPorts json.RawMessage
		Volumes      json.RawMessage
		Labels       json.RawMessage
		Healthcheck  *struct{ Test words }
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return inventory.Config{}, fmt.Errorf("config: %w", err)
	}
	c := inventory.Config{
		User: cut(said.User, maxText), WorkingDir: cut(said.WorkingDir, maxText),
		Entrypoint: cutAll(said.Entrypoint), Cmd: cutAll(said.Cmd), Env: cutAll(said.Env),
	}
	if said.Healthcheck != nil {
		c.Healthcheck = cutAll(said.Healthcheck.Test)
	}
	ports, err := table[json.RawMessage](said.ExposedPorts, maxWords, "ports")
	if err != nil {
		return c, err
	}
	volumes, err := table[json.RawMessage](said.Volumes, maxWords, "volumes")
	if err != nil {
		return c, err
	}
	if c.Labels, err = table[string](said.Labels, maxWords, "labels"); err != nil {
		return c, err
	}
	for name, value := range c.Labels {
		c.Labels[name] = cut(value, maxText)
	}
	c.ExposedPorts, c.Volumes = names(ports), names(volumes)
	return c, nil
}

func cutAll(texts []string) []string {
	if len(texts) == 0 {
		return nil
	}
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = cut(t, maxText)
	}
	return out
}

// names returns the sorted keys of a table; nil for none.
func names[T any](of map[string]T) []string {
	if len(of) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(of))
}

func parseHistory(raw json.RawMessage) ([]inventory.Step, error) {
	type step struct {
		Created    json.RawMessage `json:"created"`
		CreatedBy  string          `json:"created_by"`
		Author     string          `json:"author"`
		Comment    string          `json:"comment"`
		EmptyLayer bool            `json:"empty_layer"`
	}
	said, err := list[step](raw, maxHistory, "steps of history")
	if err != nil {
		return nil, err
	}
	var steps []inventory.Step
	for _, s := range said {
		steps = append(steps, inventory.Step{
			Created: instant(s.Created), Instruction: cut(inventory.Instruction(s.CreatedBy), maxText),
			Author: cut(s.Author, maxText), Comment: cut(s.Comment, maxText), Empty: s.EmptyLayer,
		})
	}
	return steps, nil
}

// instant reads a time; what is none is the zero time: no image is worth less
// for a date that somebody wrote by hand.
func instant(raw json.RawMessage) time.Time {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
