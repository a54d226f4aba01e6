package aws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// maxTasksAnswer bounds what is read of tasks: one with ten containers has some 20 KB.
const maxTasksAnswer = 4 << 20

// lenient takes the CPU and memory of containers as numbers, too. ECS writes them as
// texts; emulators of it write numbers, at which the SDK gives up on the whole answer.
func lenient(o *ecs.Options) {
	o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
		// After the operation's own step, so that it runs before that one reads.
		return s.Deserialize.Add(middleware.DeserializeMiddlewareFunc("castellan.Lenient", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			resp, ok := out.RawResponse.(*smithyhttp.Response)
			if err != nil || !ok || resp.StatusCode != 200 {
				return out, metadata, err
			}
			body, err := io.ReadAll(io.LimitReader(resp.Body, maxTasksAnswer+1))
			err = errors.Join(err, resp.Body.Close())
			if len(body) > maxTasksAnswer {
				err = fmt.Errorf("it has more than %d bytes", maxTasksAnswer)
			}
			if err != nil {
				return out, metadata, &smithy.DeserializationError{Err: fmt.Errorf("read answer: %w", err)}
			}
			resp.Body = io.NopCloser(bytes.NewReader(numbersAsTexts(body)))
			return out, metadata, nil
		}), middleware.After)
	})
}

// numbersAsTexts writes an answer about tasks as ECS does. One that it can't read
// is left for whoever reads it next.
func numbersAsTexts(body []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var answer map[string]any
	if d.Decode(&answer) != nil {
		return body
	}
	tasks, _ := answer["tasks"].([]any)
	changed := false
	for _, t := range append(tasks, answer["task"]) {
		task, _ := t.(map[string]any)
		containers, _ := task["containers"].([]any)
		for _, c := range containers {
			container, _ := c.(map[string]any)
			for _, name := range []string{"cpu", "memory", "memoryReservation"} {
				if n, ok := container[name].(json.Number); ok {
					container[name], changed = n.String(), true
				}
			}
		}
	}
	if !changed {
		return body
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return body
	}
	return b
}
