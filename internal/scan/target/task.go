package target

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Limits on task definitions.
const (
	// maxTaskFile bounds a file of them. ECS takes definitions of 64 KiB each.
	maxTaskFile = 8 << 20
	// maxTasks bounds how many are in one file: as many revisions as somebody
	// may have exported.
	maxTasks = 1000
	// maxContainers bounds the containers of one; ECS permits ten.
	maxContainers = 100
	// maxWord bounds a name and an image; ECS permits 255 for both.
	maxWord = 1024
)

// Definition is an ECS task definition, as far as its images go.
type Definition struct {
	Name       string // family:revision, as far as it is told
	Platform   inventory.Platform
	Containers []Container
}

// Container is one container of a task definition.
type Container struct {
	Name  string
	Image string // as it is written there
}

// ParseTask reads task definitions in JSON: what `aws ecs
// register-task-definition` takes, what it and `aws ecs describe-task-definition`
// return, the same with the names of CloudFormation, or an array of these.
func ParseTask(b []byte) ([]Definition, error) {
	const remedy = "give the JSON of aws ecs describe-task-definition, or what aws ecs register-task-definition takes"
	if len(b) > maxTaskFile {
		return nil, fault.New(fault.Invalid, "task definition of %d bytes, and at most %d are read", len(b), maxTaskFile).With(remedy)
	}
	all, err := parseTasks(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	if err != nil {
		return nil, fault.New(fault.Invalid, "parse task definition: %w", err).With(remedy)
	}
	return all, nil
}

func parseTasks(b []byte) ([]Definition, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	var raw []json.RawMessage
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		var err error
		if raw, err = elements(d, maxTasks, "task definitions"); err != nil {
			return nil, err
		}
	} else {
		var one json.RawMessage
		if err := d.Decode(&one); err != nil {
			return nil, syntax(err)
		}
		raw = append(raw, one)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON")
	}
	if len(raw) == 0 {
		return nil, errors.New("no task definition in it")
	}
	var all []Definition
	for i, r := range raw {
		def, err := parseDefinition(r)
		if err != nil {
			return nil, fmt.Errorf("definition %d: %w", i+1, err)
		}
		all = append(all, def)
	}
	return all, nil
}

// elements reads an array.
func elements(d *json.Decoder, limit int, what string) ([]json.RawMessage, error) {
	t, err := d.Token()
	if err != nil {
		return nil, syntax(err)
	}
	if t != json.Delim('[') {
		return nil, fmt.Errorf("%s are no array", what)
	}
	var all []json.RawMessage
	for d.More() {
		if len(all) == limit {
			return nil, fmt.Errorf("more than %d %s", limit, what)
		}
		var one json.RawMessage
		if err := d.Decode(&one); err != nil {
			return nil, syntax(err)
		}
		all = append(all, one)
	}
	_, err = d.Token()
	return all, syntax(err)
}

// syntax says of an end that it came too early.
func syntax(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func parseDefinition(b []byte) (Definition, error) {
	type runtimePlatform struct{ CPUArchitecture, OperatingSystemFamily string }
	var said struct {
		TaskDefinition       json.RawMessage // around it in the answer to describe
		Family               string
		Revision             int
		ContainerDefinitions json.RawMessage
		RuntimePlatform      runtimePlatform
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return Definition{}, err
	}
	if inner := bytes.TrimSpace(said.TaskDefinition); bytes.HasPrefix(inner, []byte("{")) {
		if said.ContainerDefinitions != nil {
			return Definition{}, errors.New("a definition and one within it")
		}
		said.TaskDefinition = nil
		if err := json.Unmarshal(inner, &said); err != nil {
			return Definition{}, err
		}
	}
	if said.ContainerDefinitions == nil {
		return Definition{}, errors.New("no containerDefinitions in it")
	}
	def := Definition{Name: said.Family}
	if said.Revision > 0 {
		def.Name = fmt.Sprintf("%s:%d", said.Family, said.Revision)
	}
	var err error
	if def.Platform, err = platformOf(said.RuntimePlatform.OperatingSystemFamily, said.RuntimePlatform.CPUArchitecture); err != nil {
		return Definition{}, err
	}
	containers, err := elements(json.NewDecoder(bytes.NewReader(said.ContainerDefinitions)), maxContainers, "containerDefinitions")
	if err != nil {
		return Definition{}, err
	}
	for i, c := range containers {
		var one struct{ Name, Image string }
		if err := json.Unmarshal(c, &one); err != nil {
			return Definition{}, fmt.Errorf("container %d: %w", i+1, err)
		}
		if one.Image = strings.TrimSpace(one.Image); one.Image == "" || len(one.Image) > maxWord || len(one.Name) > maxWord || len(def.Name) > maxWord {
			return Definition{}, fmt.Errorf("container %d (%.80q): no image, or a name that ECS would not take", i+1, one.Name)
		}
		def.Containers = append(def.Containers, Container{Name: one.Name, Image: one.Image})
	}
	if len(def.Containers) == 0 {
		return Definition{}, errors.New("no container in it")
	}
	return def, nil
}

// platformOf translates ECS's words. Without any it is what the task's launch
// type decides, and the zero value.
func platformOf(family, cpu string) (inventory.Platform, error) {
	if family == "" && cpu == "" {
		return inventory.Platform{}, nil
	}
	p := inventory.Platform{OS: "linux"}
	switch family := strings.ToUpper(family); {
	case family == "" || family == "LINUX":
	case strings.HasPrefix(family, "WINDOWS"):
		p.OS = "windows"
	default:
		return p, fmt.Errorf("operatingSystemFamily %.80q is not known", family)
	}
	switch strings.ToUpper(cpu) {
	case "X86_64", "":
		p.Architecture = "amd64"
	case "ARM64":
		p.Architecture = "arm64"
	default:
		return p, fmt.Errorf("cpuArchitecture %.80q is not known", cpu)
	}
	return p, nil
}
