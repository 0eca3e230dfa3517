package io.laurel.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import io.laurel.ledger.v1.Effects;
import io.laurel.orchestrator.v1.IngestEventRequest;
import io.laurel.orchestrator.v1.IngestEventResponse;
import io.laurel.orchestrator.v1.OrchestratorServiceGrpc;
import io.laurel.orchestrator.v1.User;
import java.io.File;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** Ingests an event and prints what it changed: Example [HOST:PORT [USER]]. */
public final class Example {
  // UNAVAILABLE alone is sent again: nothing definite was decided, and the key makes a second arrival harmless.
  // The timeout is of all attempts of a call together, and of streams too: give those a channel without it.
  private static final Map<String, ?> SERVICE_CONFIG =
      Map.of(
          "methodConfig",
          List.of(
              Map.of(
                  "name", List.of(Map.of()),
                  "timeout", "10s",
                  "retryPolicy",
                      Map.of(
                          "maxAttempts", 5.0,
                          "initialBackoff", "0.1s",
                          "maxBackoff", "2s",
                          "backoffMultiplier", 2.0,
                          "retryableStatusCodes", List.of("UNAVAILABLE")))),
          "retryThrottling", Map.of("maxTokens", 20.0, "tokenRatio", 0.2));

  public static void main(String[] arguments) throws Exception {
    String target = arguments.length > 0 ? arguments[0] : "127.0.0.1:7400";
    String userId = arguments.length > 1 ? arguments[1] : "carol";
    ManagedChannel channel =
        Grpc.newChannelBuilder(target, believing())
            .defaultServiceConfig(SERVICE_CONFIG)
            .defaultLoadBalancingPolicy("round_robin")
            .enableRetry()
            .build();
    try {
      run(OrchestratorServiceGrpc.newBlockingStub(ClientInterceptors.intercept(channel, showingKey())), userId);
    } finally {
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  /** Whose certificates to believe; nothing is encrypted where that is not said. */
  private static ChannelCredentials believing() throws IOException {
    String authority = System.getenv("LAUREL_TLS_CA_FILE");
    return authority == null || authority.isEmpty()
        ? InsecureChannelCredentials.create()
        : TlsChannelCredentials.newBuilder().trustManager(new File(authority)).build();
  }

  /** The key of a system that asks for one, as `laurel keys create` prints it, with each call. */
  private static ClientInterceptor showingKey() {
    Metadata shown = new Metadata();
    String key = System.getenv("LAUREL_API_KEY");
    if (key != null && !key.isEmpty()) {
      shown.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
    }
    return MetadataUtils.newAttachHeadersInterceptor(shown);
  }

  private static void run(OrchestratorServiceGrpc.OrchestratorServiceBlockingStub laurel, String userId)
      throws Exception {
    // The key is drawn once for the event. Every attempt has it, those of the channel and your own.
    IngestEventRequest event =
        IngestEventRequest.newBuilder()
            .setUser(User.newBuilder().setUserId(userId).setTimeZone("Europe/Rome"))
            .setMetric("commits")
            .setValue(1)
            .setIdempotencyKey(UUID.randomUUID().toString())
            .build();
    IngestEventResponse reply;
    try {
      reply = laurel.ingestEvent(event);
    } catch (StatusRuntimeException error) {
      if (error.getStatus().getCode() != Status.Code.UNAVAILABLE) {
        throw error;
      }
      // The channel has tried five times. Later, or from a queue, the event can be sent again, and counts once.
      TimeUnit.SECONDS.sleep(1);
      reply = laurel.ingestEvent(event);
    }
    System.out.printf(
        "%s: %s -> %s%n", reply.getMetric(), number(reply.getTotalBefore()), number(reply.getTotalAfter()));
    show(reply.getEffects());

    IngestEventResponse again = laurel.ingestEvent(event);
    System.out.printf(
        "the same key again: %s, total %s%n",
        again.getIdempotentReplayed() ? "replayed" : "counted twice", number(again.getTotalAfter()));

    try {
      laurel.ingestEvent(
          IngestEventRequest.newBuilder()
              .setUser(User.newBuilder().setUserId(userId))
              .setMetric("no-such-metric")
              .setValue(1)
              .build());
    } catch (StatusRuntimeException error) {
      showRefusal(error);
    }
    try {
      laurel.ingestEvent(IngestEventRequest.newBuilder().setMetric("commits").build());
    } catch (StatusRuntimeException error) {
      showRefusal(error);
    }
  }

  private static void show(Effects effects) {
    effects.getStreaksList().forEach(
        streak ->
            System.out.printf(
                "  streak       %s: %d%s%n",
                streak.getState().getStreak(),
                streak.getState().getLength(),
                streak.getExtended() ? " (extended)" : ""));
    effects.getAchievementsList().forEach(
        achievement -> System.out.printf("  achievement  %s%n", achievement.getName()));
    effects.getPointsList().forEach(
        points ->
            System.out.printf(
                "  points       %s: %+d = %d%n", points.getPointsSystem(), points.getAdded(), points.getBalance()));
    effects.getLeaderboardsList().forEach(
        standing ->
            System.out.printf(
                "  leaderboard  %s: rank %d, score %s%n",
                standing.getLeaderboard(), standing.getRank(), number(standing.getScore())));
  }

  /** The parts of an error: decide by code, reason and domain; the message is for people. */
  private static void showRefusal(StatusRuntimeException error) throws InvalidProtocolBufferException {
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        ErrorInfo info = detail.unpack(ErrorInfo.class);
        System.out.printf(
            "refused: %s by %s: %s%n",
            info.getReason(),
            info.getDomain(),
            error.getStatus().getDescription());
      } else if (detail.is(BadRequest.class)) {
        detail.unpack(BadRequest.class).getFieldViolationsList().forEach(
            violation -> System.out.printf("  %s: %s%n", violation.getField(), violation.getDescription()));
      }
    }
  }

  /** Whole numbers without a decimal point. */
  private static String number(double value) {
    return value == Math.rint(value) ? Long.toString((long) value) : Double.toString(value);
  }
}
