// Starts Swagger UI on the docs page. It is a file of its own, as the page's policy
// allows no script inside the page.
(function () {
  "use strict";
  const page = document.getElementById("swagger-ui");
  const form = document.getElementById("token-form");
  const field = document.getElementById("token");
  const state = document.getElementById("token-state");
  let token = ""; // kept in this page's memory only

  const isDocument = function (request) {
    return request.loadSpec === true;
  };

  const ui = SwaggerUIBundle({
    url: page.dataset.document,
    domNode: page,
    layout: "BaseLayout",
    presets: [SwaggerUIBundle.presets.apis],
    deepLinking: false, // its links stand inside buttons, which a screen reader does not announce
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    filter: true,
    persistAuthorization: false,
    queryConfigEnabled: false,
    tryItOutEnabled: true,
    validatorUrl: null,
    withCredentials: false,
    requestInterceptor: function (request) {
      if (isDocument(request) && token !== "") {
        request.headers.Authorization = "Bearer " + token;
      }
      return request;
    },
    responseInterceptor: function (response) {
      if (response.url && new URL(response.url, location.href).pathname === new URL(page.dataset.document, location.href).pathname) {
        if (response.status === 401 || response.status === 403) {
          form.hidden = false;
          state.textContent = token === "" ? "A token is needed to see the documentation." : "The token was not accepted.";
        } else if (token !== "" && response.status === 200) {
          state.textContent = "The documentation is shown as the holder of the token may see it.";
        }
      }
      return response;
    },
    onComplete: function () {
      if (token !== "") {
        ui.preauthorizeApiKey("bearer", token);
      }
    },
  });

  // What Swagger UI leaves without a name, or out of reach of the keyboard.
  const complete = function () {
    page.querySelectorAll("#servers:not([aria-label])").forEach(function (e) {
      e.setAttribute("aria-label", "Server");
    });
    page.querySelectorAll("pre:not([tabindex])").forEach(function (e) {
      if (e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight) {
        e.setAttribute("tabindex", "0");
      }
    });
  };
  new MutationObserver(complete).observe(page, { childList: true, subtree: true });

  if (page.dataset.token === "optional") {
    form.hidden = false;
  }
  form.addEventListener("submit", function (event) {
    event.preventDefault();
    token = field.value.trim().replace(/^Bearer\s+/i, "");
    field.value = "";
    ui.specActions.download(page.dataset.document);
  });
})();
