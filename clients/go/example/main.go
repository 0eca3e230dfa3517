// Ingests an event and prints what it changed: example [HOST:PORT [USER]].
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	ledgerv1 "laurel.example/laurel/ledger/v1"
	orchestratorv1 "laurel.example/laurel/orchestrator/v1"
)

// UNAVAILABLE alone is sent again: nothing definite was decided, and the key makes a second arrival harmless.
// The timeout is of all attempts of a call together, and of streams too: give those a channel without it.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{}],
    "timeout": "10s",
    "retryPolicy": {
      "maxAttempts": 5,
      "initialBackoff": "0.1s",
      "maxBackoff": "2s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }],
  "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2}
}`

func main() {
	target, userID := "127.0.0.1:7400", "carol"
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	if len(os.Args) > 2 {
		userID = os.Args[2]
	}
	// Whose certificates to believe; nothing is encrypted where that is not said.
	transport := insecure.NewCredentials()
	if authority := os.Getenv("LAUREL_TLS_CA_FILE"); authority != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(authority, ""); err != nil {
			log.Fatal(err)
		}
	}
	connection, err := grpc.NewClient(
		target,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	laurel := orchestratorv1.NewOrchestratorServiceClient(connection)
	ctx := context.Background()
	// The key of a system that asks for one, as `laurel keys create` prints it.
	if key := os.Getenv("LAUREL_API_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}

	// The key is drawn once for the event. Every attempt has it, those of the channel and your own.
	event := &orchestratorv1.IngestEventRequest{
		User:           &orchestratorv1.User{UserId: userID, TimeZone: "Europe/Rome"},
		Metric:         "commits",
		Value:          1,
		IdempotencyKey: uuid.NewString(),
	}
	reply, err := laurel.IngestEvent(ctx, event)
	if status.Code(err) == codes.Unavailable {
		// The channel has tried five times. Later, or from a queue, the event can be sent again, and counts once.
		time.Sleep(time.Second)
		reply, err = laurel.IngestEvent(ctx, event)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %g -> %g\n", reply.Metric, reply.TotalBefore, reply.TotalAfter)
	show(reply.Effects)

	again, err := laurel.IngestEvent(ctx, event)
	if err != nil {
		log.Fatal(err)
	}
	outcome := "counted twice"
	if again.IdempotentReplayed {
		outcome = "replayed"
	}
	fmt.Printf("the same key again: %s, total %g\n", outcome, again.TotalAfter)

	_, err = laurel.IngestEvent(ctx, &orchestratorv1.IngestEventRequest{
		User: &orchestratorv1.User{UserId: userID}, Metric: "no-such-metric", Value: 1,
	})
	showRefusal(err)
	_, err = laurel.IngestEvent(ctx, &orchestratorv1.IngestEventRequest{Metric: "commits"})
	showRefusal(err)
}

func show(effects *ledgerv1.Effects) {
	for _, streak := range effects.GetStreaks() {
		extended := ""
		if streak.Extended {
			extended = " (extended)"
		}
		fmt.Printf("  streak       %s: %d%s\n", streak.State.Streak, streak.State.Length, extended)
	}
	for _, achievement := range effects.GetAchievements() {
		fmt.Printf("  achievement  %s\n", achievement.Name)
	}
	for _, points := range effects.GetPoints() {
		fmt.Printf("  points       %s: %+d = %d\n", points.PointsSystem, points.Added, points.Balance)
	}
	for _, standing := range effects.GetLeaderboards() {
		fmt.Printf("  leaderboard  %s: rank %d, score %g\n", standing.Leaderboard, standing.Rank, standing.Score)
	}
}

// showRefusal prints the parts of an error: decide by code, reason and domain; the message is for people.
func showRefusal(err error) {
	refusal := status.Convert(err)
	for _, detail := range refusal.Details() {
		switch part := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Printf("refused: %s by %s: %s\n", part.Reason, part.Domain, refusal.Message())
		case *errdetails.BadRequest:
			for _, violation := range part.FieldViolations {
				fmt.Printf("  %s: %s\n", violation.Field, violation.Description)
			}
		}
	}
}
