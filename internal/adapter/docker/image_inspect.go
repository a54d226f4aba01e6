package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client/pkg/versions"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// imageInspection is what is read of the engine's answer about one image.
type imageInspection struct {
	ID           string `json:"Id"`
	RepoDigests  []string
	Created      string
	Architecture string
	Variant      string
	Os           string
	OsVersion    string
	RootFS       struct{ Layers []string }
	Config       *struct {
		User         string
		Env          []string
		Cmd          []string
		Entrypoint   []string
		WorkingDir   string
		ExposedPorts map[string]struct{}
		Volumes      map[string]struct{}
		Labels       map[string]string
		Healthcheck  *struct{ Test []string }
	}
	// Descriptor is told by engines with the containerd store, whose ids are
	// those of manifests and indexes.
	Descriptor *struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
	}
}

// imageStep is one step of the engine's answer about an image's history, newest
// first.
type imageStep struct {
	Created   int64
	CreatedBy string
	Size      int64
	Comment   string
}

// inspect asks the engine what it knows of an image.
func (i *Image) inspect(ctx context.Context, name string, asked inventory.Platform) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	query := url.Values{}
	selects := !versions.LessThan(i.conn.engine.APIVersion, inspectsPlatforms)
	if asked != (inventory.Platform{}) {
		asked.OS = cmp.Or(asked.OS, "linux")
		text, err := platformQuery(asked)
		if err != nil {
			return err
		}
		i.platform = text
		if selects {
			query.Set("platform", text)
		}
	}
	var said imageInspection
	if err := i.conn.get(ctx, "/images/"+name+"/json", query, maxImageBody, &said); err != nil {
		return notHere(name, err)
	}
	if err := said.check(asked); err != nil {
		return err
	}
	i.id, i.manifest = said.ID, said.Descriptor != nil
	i.info = said.image(name)
	if i.manifest && i.platform == "" {
		// Without a platform such an engine saves all that it has.
		text, err := platformQuery(i.info.Platform)
		if err != nil {
			return err
		}
		i.platform = text
	}
	return i.history(ctx)
}

// notHere says what to do when the engine has no such image.
func notHere(name string, err error) error {
	if !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("inspect image: %w", err)
	}
	return fault.New(fault.NotFound, "inspect image: %w", err).
		With("pull it (docker pull " + clean(name, maxText) + "), or scan it from its registry (registry:" + clean(name, maxText) + ")")
}

// check refuses what is not what was asked for, or could be no image.
func (in *imageInspection) check(asked inventory.Platform) error {
	if !isDigest(in.ID) {
		return fmt.Errorf("inspect image: the engine gives its id as %q", clean(in.ID, maxText))
	}
	if len(in.RootFS.Layers) > maxLayers {
		return fault.New(fault.Invalid, "inspect image: %d layers, and at most %d are read", len(in.RootFS.Layers), maxLayers).
			With("look at who made this image")
	}
	for _, l := range in.RootFS.Layers {
		if err := inventory.CheckDigest(l); err != nil {
			return fmt.Errorf("inspect image: layer: %w", err)
		}
	}
	has := in.platform()
	if asked != (inventory.Platform{}) && (has.OS != asked.OS || asked.Architecture != "" && has.Architecture != asked.Architecture ||
		asked.Variant != "" && has.Variant != "" && has.Variant != asked.Variant) {
		return fault.New(fault.NotFound, "the engine has this image for %s, and %s was asked for", has, asked).
			With("pull it for that platform (docker pull --platform " + asked.String() + "), or scan it from its registry")
	}
	return nil
}

func (in *imageInspection) platform() inventory.Platform {
	return inventory.Platform{
		OS: clean(in.Os, maxText), Architecture: clean(in.Architecture, maxText),
		Variant: clean(in.Variant, maxText), OSVersion: clean(in.OsVersion, maxText),
	}
}

// image is what the inspection alone tells of an image.
func (in *imageInspection) image(name string) inventory.Image {
	i := inventory.Image{Reference: name, Platform: in.platform()}
	if t := instant(in.Created); t != nil {
		i.Created = *t
	}
	if d := in.Descriptor; d == nil {
		i.ID, i.Digest = in.ID, digestOf(name, in.RepoDigests)
	} else if isDigest(d.Digest) && strings.Contains(d.MediaType, "manifest.v") {
		i.Digest = d.Digest // of the one manifest; an index's says less
	}
	for _, diffID := range in.RootFS.Layers {
		i.Layers = append(i.Layers, inventory.Layer{DiffID: diffID})
	}
	c := in.Config
	if c == nil {
		return i
	}
	i.Config = inventory.Config{
		User: clean(c.User, maxText), WorkingDir: clean(c.WorkingDir, maxText),
		Entrypoint: texts(c.Entrypoint), Cmd: texts(c.Cmd), Env: texts(c.Env),
		ExposedPorts: keys(c.ExposedPorts), Volumes: keys(c.Volumes), Labels: c.Labels,
	}
	if c.Healthcheck != nil {
		i.Config.Healthcheck = texts(c.Healthcheck.Test)
	}
	return i
}

// texts shortens what is too long to keep. Lines and tabs stay: a command may be
// a script.
func texts(all []string) []string {
	if len(all) == 0 {
		return nil
	}
	out := slices.Clone(all[:min(len(all), maxImageTexts)])
	for n, t := range out {
		out[n] = shorten(t)
	}
	return out
}

func shorten(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxImageText)], "")
}

func keys(of map[string]struct{}) []string {
	if len(of) == 0 {
		return nil
	}
	all := slices.Sorted(maps.Keys(of))
	return all[:min(len(all), maxImageTexts)]
}

// history asks the engine by which steps the image was built.
func (i *Image) history(ctx context.Context) error {
	query := url.Values{}
	if i.platform != "" && !versions.LessThan(i.conn.engine.APIVersion, savesPlatforms) {
		query.Set("platform", i.platform)
	}
	var said []imageStep
	if err := i.conn.get(ctx, "/images/"+i.id+"/history", query, maxImageBody, &said); err != nil {
		return fmt.Errorf("ask for history of image: %w", err)
	}
	slices.Reverse(said)
	i.info.History = steps(said, len(i.info.Layers))
	i.info.ExplainLayers()
	return nil
}

// steps translates the engine's history. It tells the size of what each step
// made, not which of those without a size made a layer all the same, as one
// that only makes a folder that is there already does; so they are told apart
// by what they do, if that gives as many as there are layers.
func steps(said []imageStep, layers int) []inventory.Step {
	var out []inventory.Step
	sized, made := 0, 0
	for _, s := range said {
		step := inventory.Step{Instruction: shorten(inventory.Instruction(s.CreatedBy)), Comment: shorten(s.Comment)}
		if s.Created > 0 {
			step.Created = time.Unix(s.Created, 0).UTC()
		}
		step.Empty = s.Size == 0 && describes(step.Instruction)
		if s.Size > 0 {
			sized++
		}
		if !step.Empty {
			made++
		}
		out = append(out, step)
	}
	if made != layers && sized == layers {
		for n, s := range said {
			out[n].Empty = s.Size == 0
		}
	}
	return out
}

// describes says whether a step of a Dockerfile only changes how the image is
// run.
func describes(instruction string) bool {
	word, _, _ := strings.Cut(instruction, " ")
	switch strings.ToUpper(word) {
	case "ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "SHELL", "STOPSIGNAL", "USER", "VOLUME":
		return true
	}
	return false
}
